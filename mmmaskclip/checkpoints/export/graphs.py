"""To ONNX and TorchScript: the image tower, the text tower and the patches as graphs that need none of our code."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmaskclip.checkpoints.files import sha256_of

GRAPHS = ('onnx', 'torchscript')


class _Image(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)  # (B, 3, H, W) -> (B, D)


class _Text(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)  # (T, L) -> (T, D)


class _Dense(nn.Module):
    def __init__(self, model: Any, read_out: Any) -> None:
        super().__init__()
        self.model, self.read_out = model, read_out

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_dense(images, self.read_out)  # (B, 3, H, W) -> (B, D, h, w)


def export_graphs(model: Any, to: str, folder: str | os.PathLike, read_out: Any = 'patch') -> dict[str, str]:
    """Write ``image``, ``text`` and ``dense`` as three files.

    The batch is of any size, captions of any length up to the context length. The image is of the model's own size: the
    graph holds the positions of its patches. Inputs are normalized images (B, 3, H, W), float32, and token ids (T, L),
    int64; outputs are L2-normalized.

    Args:
        model: A built ``ImageTextPretrainer`` with its weights; put into eval mode.
        to: ``'onnx'`` (needs onnx and onnxscript) or ``'torchscript'``.
        folder: Where; made if need be.
        read_out: Of ``dense``, see ``ImageTextPretrainer.encode_dense``. Defaults to ``'patch'``.

    Returns:
        SHA-256 by the name of each file.

    Raises:
        ImportError: If a package that ONNX needs is missing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().cpu().requires_grad_(False)
    # More than one, so that no size is taken for a constant.
    images = torch.zeros(2, 3, *model.image_encoder.img_size)
    tokens = torch.zeros(2, min(5, model.text_encoder.context_length), dtype=torch.int64)
    tokens[:, -1] = model.text_encoder.token_embedding.num_embeddings - 1
    batch = torch.export.Dim('batch', min=1)
    length = torch.export.Dim('length', min=2, max=model.text_encoder.context_length)
    parts = {
        'image': (_Image(model), images, {0: batch}),
        'text': (_Text(model), tokens, {0: batch, 1: length}),
        'dense': (_Dense(model, read_out), images, {0: batch}),
    }
    digests = {}
    for name, (part, example, dynamic) in parts.items():
        path = folder / f'{name}.{"onnx" if to == "onnx" else "pt"}'
        with warnings.catch_warnings(), torch.no_grad():
            # Traced values become constants where they depend on the fixed image size only.
            warnings.simplefilter('ignore')
            if to == 'onnx':
                _to_onnx(part, example, dynamic, path)
            else:
                torch.jit.trace(part, example, check_trace=False).save(str(path))
        digests[path.name] = sha256_of(path)
    return digests


def _to_onnx(part: nn.Module, example: Tensor, dynamic: dict, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('ONNX needs two packages: pip install onnx onnxscript') from error
    names = ['tokens'] if example.dtype == torch.int64 else ['images']
    torch.onnx.export(
        part,
        (example,),
        str(path),
        input_names=names,
        output_names=['embeddings'],
        dynamic_shapes=(dynamic,),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
