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
    """Let ``mmcv._ext``, if it is not installed, be a module with ``nms`` and ``roi_align`` from torchvision.

    Call it before mmdet is imported; an attempt that failed for want of ``mmcv._ext`` may be repeated after it. Where
    mmcv's compiled operators are installed, they are used and nothing changes. Every other operator raises
    ``NotImplementedError`` when it is called, with its name and the way to get it. This call imports nothing; a second
    one does nothing.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        # Last, so that a compiled module is found first. A compiled module that is found and does not load keeps
        # raising its own error: a broken installation is not papered over.
        sys.meta_path.append(_Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        # With a spec, as the Runner asks importlib for it (revert_sync_batchnorm) and a module without one is an error.
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
            # Not operators, but what mmcv prints about its operators in a report of the environment.
            get_compiler_version=lambda: 'none, operators from torchvision',
            get_compiling_cuda_version=lambda: 'none, operators from torchvision',
            __getattr__=_missing,
        )


def _missing(name: str) -> Any:
    # mmcv.ops looks up some hundred operators when it is imported, so the lookup has to succeed.
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
    """mmcv's ``nms`` on torchvision's.

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

    # torchvision has no half precision on CPUs and no bfloat16, in which an offset of 1 would also be rounded away.
    bboxes = _full_precision(bboxes)
    if offset:
        # Widths and overlaps with mmcv's offset are those of boxes that are wider and higher by it.
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
    """mmcv's ``roi_align_forward`` on torchvision's; computed in single precision for half-precision maps.

    Args:
        input: Maps, shape (B, C, H, W).
        rois: Image index and box (x1, y1, x2, y2) in pixels of the image, shape (N, 5).
        output: Written here, shape (N, C, aligned_height, aligned_width).
        argmax_y: Of maximum pooling only.
        argmax_x: Of maximum pooling only.
        aligned_height: Rows of the output.
        aligned_width: Columns of the output.
        spatial_scale: Cells of the map per pixel of the image.
        sampling_ratio: Samples per bin and side; 0: as many as the bin has cells.
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
    """mmcv's ``roi_align_backward`` on torchvision's: the gradient by the maps, written to ``grad_input`` (B, C, H, W).

    The other arguments are those of :func:`roi_align_forward`; ``grad_output`` has the shape of its output.

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
