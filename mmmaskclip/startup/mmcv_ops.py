"""mmcv's compiled operators from torchvision, where mmcv was installed without them.

``pip install onedl-mmcv`` gives mmcv without ``mmcv._ext``; compiling it takes most of an hour on a small machine, and
mmdet does not load without it. Mask R-CNN uses three of its operators, which torchvision has, for CPU and GPU.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torch import Tensor

_NAME = 'mmcv._ext'


def provide_mmcv_ops() -> None:
    """Provide ``mmcv._ext`` with ``nms`` and ``roi_align`` from torchvision, where mmcv has no compiled operators.

    Call this function before mmdet is imported. An import that failed without ``mmcv._ext`` can be repeated afterwards.
    Compiled operators, where they are installed, take precedence. Every other operator raises ``NotImplementedError``
    when it is called; the error names the operator and how to install it. This function imports nothing, and a second
    call does nothing.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # The last finder: a compiled module is found first, and if it does not load, its own error is raised.
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        # The Runner asks importlib for the module's spec (revert_sync_batchnorm); a module without one is an error.
        return ModuleSpec(_NAME, _Loader(), origin='torchvision') if fullname == _NAME else None


class _Loader(Loader):
    def create_module(self, spec):
        return None

    def exec_module(self, module: ModuleType) -> None:
        module.__doc__ = __doc__
        module.__dict__.update(
            nms=nms,
            roi_align_forward=roi_align_forward,
            roi_align_backward=roi_align_backward,
            # mmcv prints these two in its report of the environment.
            get_compiler_version=lambda: 'none, operators from torchvision',
            get_compiling_cuda_version=lambda: 'none, operators from torchvision',
            __getattr__=_missing,
        )


def _missing(name: str) -> Any:
    # mmcv.ops looks up about a hundred operators when it is imported; the lookups must succeed.
    if name.startswith('__'):
        raise AttributeError(f'module {_NAME!r} has no attribute {name!r}')

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        _refuse(f'mmcv operator {name!r}')

    return refuse


def _refuse(what: str) -> NoReturn:
    raise NotImplementedError(
        f'{what} needs compiled mmcv: this installation has none, and torchvision stands in only for nms and roi_align '
        "(pool_mode 'avg'). Install a compiler (and CUDA's, for GPU), then: "
        'MMCV_WITH_OPS=1 python -m pip install --no-build-isolation --no-deps --force-reinstall --no-binary onedl-mmcv '
        'onedl-mmcv (40 minutes on one core); or use a model without this operator'
    )


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int = 0) -> Tensor:
    """mmcv's ``nms``, computed by torchvision.

    Args:
        bboxes: Boxes (x1, y1, x2, y2), shape (N, 4), of any floating type.
        scores: Scores, shape (N,).
        iou_threshold: A box that overlaps a better one by more than this is dropped.
        offset: The width of a box is ``x2 - x1 + offset``: 0 or 1.

    Returns:
        Indices of the kept boxes, best first, of equal ones the first, shape (K,).
    """
    import torch
    import torchvision

    # torchvision has no half precision on CPUs and no bfloat16; in bfloat16 an offset of 1 would be rounded away, too.
    bboxes = _full_precision(bboxes)
    if offset:
        # mmcv's offset gives the widths and overlaps of boxes that are larger by the offset.
        bboxes = torch.cat([bboxes[:, :2], bboxes[:, 2:] + offset], dim=1)
    return torchvision.ops.nms(bboxes, _full_precision(scores), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """mmcv's ``roi_align_forward``, computed by torchvision; half-precision maps are computed in single precision.

    Args:
        input: Maps, shape (B, C, H, W).
        rois: Image index and box (x1, y1, x2, y2) in pixels of the image, shape (N, 5).
        output: Receives the result, shape (N, C, aligned_height, aligned_width).
        argmax_y: Not used; maximum pooling would write it.
        argmax_x: Not used; maximum pooling would write it.
        aligned_height: Rows of the output.
        aligned_width: Columns of the output.
        spatial_scale: Cells of the map per pixel of the image.
        sampling_ratio: Samples per bin and side; 0 takes one per cell of the bin.
        pool_mode: 1: mean. 0, maximum, is refused.
        aligned: Whether the centre of a cell is at half a cell.

    Raises:
        NotImplementedError: For maximum pooling.
    """
    import torch
    import torchvision  # noqa: F401  (registers the operators)

    _check_pool_mode(pool_mode)
    pooled = torch.ops.torchvision.roi_align(
        _full_precision(input),
        _full_precision(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        sampling_ratio,
        aligned,
    )
    output.copy_(pooled)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """mmcv's ``roi_align_backward``, computed by torchvision; it writes the maps' gradient to ``grad_input``.

    ``grad_input`` has the shape (B, C, H, W) of the maps, and ``grad_output`` that of the output of
    :func:`roi_align_forward`, whose other arguments are the same.

    Raises:
        NotImplementedError: For maximum pooling.
    """
    import torch
    import torchvision  # noqa: F401  (registers the operators)

    _check_pool_mode(pool_mode)
    grad = torch.ops.torchvision._roi_align_backward(
        _full_precision(grad_output),
        _full_precision(rois),
        spatial_scale,
        aligned_height,
        aligned_width,
        *grad_input.shape,
        sampling_ratio,
        aligned,
    )
    grad_input.copy_(grad)


def _check_pool_mode(pool_mode: int) -> None:
    if pool_mode != 1:
        _refuse("mmcv operator 'roi_align_forward' with pool_mode 'max'")


def _full_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.element_size() < 4 else tensor
