"""mmcv's operators from torchvision, against NumPy references and, where those are installed, the compiled ones."""

import math
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mmmaskclip.startup import mmcv_ops
from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops

provide_mmcv_ops()

from mmcv.ops import RoIAlign, batched_nms, nms, roi_align, soft_nms  # noqa: E402

_STAND_IN = find_spec('mmcv._ext').origin == 'torchvision'
_without_compiler = pytest.mark.skipif(not _STAND_IN, reason='mmcv has compiled operators here')


def _boxes(number: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 20, (number, 2))
    return np.concatenate([corners, corners + rng.uniform(1, 15, (number, 2))], axis=1).astype(np.float32)


def _nms_reference(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    def area(box):
        return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)

    kept: list[int] = []
    for index in np.argsort(-scores, kind='stable'):
        box, overlaps = boxes[index], []
        for other in boxes[kept]:
            width, height = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]) + offset
            common = max(width, 0) * max(height, 0)
            overlaps.append(common / (area(box) + area(other) - common))
        if all(overlap <= threshold for overlap in overlaps):
            kept.append(int(index))
    return kept


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.0, 0.3, 0.7])
def test_nms_is_the_reference(offset, threshold):
    boxes, scores = _boxes(60), np.random.default_rng(1).permutation(60).astype(np.float32) / 60
    dets, kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold, offset)
    expected = _nms_reference(boxes, scores, threshold, offset)
    assert kept.tolist() == expected
    assert 1 < len(expected) < 60
    np.testing.assert_array_equal(dets.numpy(), np.column_stack([boxes, scores])[expected])


def test_offset_decides_for_small_boxes():
    """Two pixels side by side: they overlap only if a box's last pixel counts."""
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [1, 0, 2, 1]]), torch.tensor([0.9, 0.8])
    assert len(nms(boxes, scores, 0.3, offset=0)[1]) == 2
    assert len(nms(boxes, scores, 0.3, offset=1)[1]) == 1
    assert boxes.tolist() == [[0, 0, 1, 1], [1, 0, 2, 1]]


def test_nms_of_ties_keeps_the_first():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [30, 30, 40, 40], [30, 30, 40, 41]])
    assert nms(boxes, torch.full((4,), 0.5), 0.5)[1].tolist() == [0, 2]


@pytest.mark.parametrize('offset', [0, 1])
def test_nms_of_nothing(offset):
    dets, kept = nms(torch.zeros(0, 4), torch.zeros(0), 0.5, offset)
    assert dets.shape == (0, 5)
    assert kept.shape == (0,)
    assert kept.dtype == torch.int64


def test_score_threshold_and_number():
    boxes, scores = _boxes(40), np.random.default_rng(1).permutation(40).astype(np.float32) / 40
    above = np.flatnonzero(scores > 0.4)
    expected = above[_nms_reference(boxes[above], scores[above], 0.3, 0)]
    _, kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3, score_threshold=0.4)
    assert kept.tolist() == expected.tolist()
    _, kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.3, max_num=3)
    assert kept.tolist() == _nms_reference(boxes, scores, 0.3, 0)[:3]


@pytest.mark.parametrize('split', [10000, 10])
def test_batched_nms_is_per_class(split):
    boxes, scores = _boxes(40), np.random.default_rng(1).permutation(40).astype(np.float32) / 40
    classes = np.arange(40) % 3
    _, kept = batched_nms(
        *(torch.from_numpy(array) for array in (boxes, scores, classes)),
        dict(type='nms', iou_threshold=0.3, split_thr=split),
    )
    expected = []
    for number in range(3):
        members = np.flatnonzero(classes == number)
        expected.extend(members[_nms_reference(boxes[members], scores[members], 0.3, 0)])
    assert kept.tolist() == sorted(expected, key=lambda index: -scores[index])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_nms_of_other_precisions(dtype):
    """Of half-precision boxes it is that of the same numbers in single precision."""
    boxes, scores = torch.from_numpy(_boxes(40)).to(dtype), torch.rand(40).to(dtype)
    # Two pixels apart near 1000, where bfloat16 has steps of 4: one more pixel is not lost.
    corner = torch.tensor([[1000, 1000, 1004, 1004], [1000, 1000, 1004, 1012]]).to(dtype)
    for some, their in ((boxes, scores), (corner, scores[:2])):
        for threshold in (0.3, 0.37):
            assert torch.equal(
                mmcv_ops.nms(some, their, threshold, offset=1),
                mmcv_ops.nms(some.float(), their.float(), threshold, offset=1),
            )


def _axis_weights(start: float, length: float, bins: int, size: int, ratio: int) -> np.ndarray:
    """(bins, samples, size): what each sample of each bin takes of each cell along one axis."""
    samples = ratio or math.ceil(length / bins)
    weights = np.zeros((bins, samples, size))
    for at in np.ndindex(bins, samples):
        place = start + (at[0] + (at[1] + 0.5) / samples) * length / bins
        if -1 <= place <= size:
            place = min(max(place, 0), size - 1)
            low = min(int(place), size - 1)
            weights[at][low] += 1 - (place - low)
            weights[at][min(low + 1, size - 1)] += place - low
    return weights


def _roi_weights(rois, shape, out, scale, ratio, aligned) -> np.ndarray:
    """(N, B, rows, columns, H, W): RoIAlign as a matrix, so that its transpose is the gradient."""
    batch, _, height, width = shape
    weights = np.zeros((len(rois), batch, *out, height, width))
    for number, (image, *box) in enumerate(rois):
        x1, y1, x2, y2 = np.array(box) * scale - (0.5 if aligned else 0)
        lengths = [y2 - y1, x2 - x1] if aligned else [max(y2 - y1, 1), max(x2 - x1, 1)]
        rows = _axis_weights(y1, lengths[0], out[0], height, ratio)
        columns = _axis_weights(x1, lengths[1], out[1], width, ratio)
        total = np.einsum('iah,jbw->ijhw', rows, columns)
        weights[number, int(image)] = total / max(rows.shape[1] * columns.shape[1], 1)
    return weights


# Inside, over the border, outside, smaller than a cell, all of it.
_ROIS = np.array(
    [[0, 2.3, 1.1, 9.7, 8.2], [1, -6, -5, 9, 30], [1, 40, 40, 50, 50], [0, 3.2, 3.1, 3.4, 3.3], [1, 0, 0, 14, 12]]
)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('scale', [1.0, 0.5, 0.125])
def test_roi_align_and_gradient_are_the_reference(aligned, ratio, scale):
    maps = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    weights = _roi_weights(_ROIS, maps.shape, (3, 2), scale, ratio, aligned)
    pooled = roi_align(maps, torch.from_numpy(_ROIS), (3, 2), scale, ratio, 'avg', aligned)
    np.testing.assert_allclose(
        pooled.detach().numpy(), np.einsum('nbijhw,bchw->ncij', weights, maps.detach().numpy()), atol=1e-12
    )
    grad = torch.randn_like(pooled)
    # Of another memory layout, as a head's transposed output has.
    pooled.backward(grad.transpose(2, 3).contiguous().transpose(2, 3))
    expected = np.einsum('nbijhw,ncij->bchw', weights, grad.numpy())
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(maps.grad.numpy(), expected, atol=1e-12)


def test_roi_align_of_nothing():
    maps = torch.randn(2, 3, 6, 7, requires_grad=True)
    pooled = RoIAlign(7)(maps, torch.zeros(0, 5))
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert not maps.grad.any()


@_without_compiler
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_roi_align_in_half_precision_is_rounded_once(dtype):
    maps = torch.randn(2, 3, 6, 7).to(dtype).requires_grad_()
    single = maps.detach().float().requires_grad_()
    rois = torch.from_numpy(_ROIS).to(dtype)
    pooled, expected = RoIAlign(3)(maps, rois), RoIAlign(3)(single, rois.float())
    assert pooled.dtype == dtype
    assert torch.equal(pooled, expected.to(dtype))
    grad = torch.randn_like(pooled)
    pooled.backward(grad)
    expected.backward(grad.float())
    assert torch.equal(maps.grad, single.grad.to(dtype))


@_without_compiler
def test_maximum_pooling_is_refused():
    with pytest.raises(NotImplementedError, match="pool_mode 'max'.*MMCV_WITH_OPS=1"):
        RoIAlign(3, pool_mode='max')(torch.randn(1, 1, 4, 4), torch.tensor([[0.0, 0, 0, 2, 2]]))


@_without_compiler
@pytest.mark.parametrize('name', ['softnms', 'nms_rotated', 'modulated_deform_conv_forward', 'roi_pool_forward'])
def test_other_operators_are_refused_by_name(name):
    with pytest.raises(NotImplementedError, match=f"mmcv operator '{name}' needs compiled mmcv.*MMCV_WITH_OPS=1"):
        getattr(sys.modules['mmcv._ext'], name)(1, two=2)


@_without_compiler
def test_the_callers_of_other_operators_import_and_raise():
    with pytest.raises(NotImplementedError, match="'softnms'"):
        soft_nms(torch.from_numpy(_boxes(3)), torch.rand(3), 0.5)


@pytest.mark.skipif(_STAND_IN, reason='mmcv has no compiled operators here')
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('aligned', [True, False])
def test_it_is_the_compiled_one(offset, aligned):
    compiled = sys.modules['mmcv._ext']
    boxes, scores = torch.from_numpy(_boxes(60)), torch.randperm(60) / 60
    assert torch.equal(
        mmcv_ops.nms(boxes, scores, 0.3, offset), compiled.nms(boxes, scores, iou_threshold=0.3, offset=offset)
    )
    maps, rois, empty = torch.randn(2, 3, 6, 7), torch.from_numpy(_ROIS).float(), torch.zeros(0)
    settings = dict(
        aligned_height=3, aligned_width=2, spatial_scale=0.5, sampling_ratio=0, pool_mode=1, aligned=aligned
    )
    outputs = [torch.zeros(len(rois), 3, 3, 2) for _ in range(2)]
    grads = [torch.zeros_like(maps) for _ in range(2)]
    for source, output, grad in zip((mmcv_ops, compiled), outputs, grads, strict=True):
        source.roi_align_forward(maps, rois, output, empty, empty, **settings)
        source.roi_align_backward(torch.ones_like(output), rois, empty, empty, grad, **settings)
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*grads)


def test_the_runner_accepts_the_module():
    """mmengine's Runner asks for the module's spec when it looks for synchronized batch norm."""
    from mmengine.model import revert_sync_batchnorm

    assert isinstance(revert_sync_batchnorm(torch.nn.SyncBatchNorm(2)), torch.nn.modules.batchnorm._BatchNorm)


def test_providing_twice_is_providing_once():
    before, module = list(sys.meta_path), sys.modules['mmcv._ext']
    provide_mmcv_ops()
    assert sys.meta_path == before
    assert sys.modules['mmcv._ext'] is module


def _run(code: str, path: str = '') -> str:
    prelude = f'import sys; sys.path.insert(0, {path!r})\n' if path else ''
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', prelude + code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_compiled_module_is_used(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').touch()
    (tmp_path / 'mmcv/_ext.py').write_text("nms = 'compiled'")
    code = (
        'from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops; provide_mmcv_ops(); import mmcv._ext as ext;'
        "print(ext.nms, hasattr(ext, 'softnms'))"
    )
    assert _run(code, str(tmp_path)) == 'compiled False'


def test_providing_imports_nothing():
    code = (
        'import sys; from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops; provide_mmcv_ops();'
        "print({'torch', 'torchvision', 'mmcv'} & set(sys.modules))"
    )
    assert _run(code) == 'set()'


@_without_compiler
def test_a_failed_import_may_be_repeated():
    code = '\n'.join(
        (
            'try:',
            '    import mmcv.ops',
            'except ModuleNotFoundError as error:',
            '    print(error.name)',
            'from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops',
            'provide_mmcv_ops()',
            'import mmcv.ops',
            'print(mmcv.ops.nms.__name__)',
        )
    )
    assert _run(code).split() == ['mmcv._ext', 'nms']
