"""ONNX graphs in half precision and with weights of 8 bit, with what they lose."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

PRECISIONS = ('fp16', 'int8')


class Loss(NamedTuple):
    """What a smaller graph loses: largest difference of a number of the embeddings, and lowest cosine of two."""

    difference: float
    cosine: float


def write_small(source: Path, path: Path, precision: str, given: Tensor) -> Loss:
    """Write a smaller copy of an ONNX graph and compare the two.

    ``'fp16'`` holds weights and computes in half precision, with float32 at its ends; meant for GPUs, CPUs convert
    back. ``'int8'`` holds the weights of linear layers in 8 bit and quantizes their inputs as they come
    (``onnxruntime.quantization.quantize_dynamic``); meant for CPUs.

    Args:
        source: The graph in float32.
        path: Where.
        precision: One of :data:`PRECISIONS`.
        given: A batch to compare with.

    Raises:
        ImportError: If onnxruntime is missing.
        ValueError: If the precision is unknown.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision={precision!r}: choose one of {", ".join(PRECISIONS)}')
    try:
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError as error:
        raise ImportError('fp16 and int8 need ONNX Runtime: pip install onnxruntime') from error
    if precision == 'fp16':
        onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), path)
    else:
        quantize_dynamic(source, path, op_types_to_quantize=['MatMul', 'Gemm'], weight_type=QuantType.QInt8)
    expected, found = (_run(file, given) for file in (source, path))
    # Vectors are along the second axis, (B, D) or (B, D, h, w); in half precision their length is not quite 1.
    cosines = (found * expected).sum(1) / ((found**2).sum(1) * (expected**2).sum(1)) ** 0.5
    return Loss(float(abs(found - expected).max()), float(cosines.min()))


def _run(path: Path, given: Tensor):
    from onnxruntime import InferenceSession

    session = InferenceSession(path, providers=['CPUExecutionProvider'])
    return session.run(None, {session.get_inputs()[0].name: given.numpy()})[0]
