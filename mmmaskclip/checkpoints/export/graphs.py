"""To ONNX and TorchScript: the image tower, the text tower and the patches as graphs that need none of our code."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from packaging import version
from torch import Tensor, nn

from mmmaskclip.checkpoints.export.card import as_text, model_card
from mmmaskclip.checkpoints.export.open_clip import preprocess_of
from mmmaskclip.checkpoints.export.parts import NotExpressible, Pixels, check_parts, pixels_of
from mmmaskclip.checkpoints.export.refusals import is_trunk
from mmmaskclip.checkpoints.export.small_graphs import write_small
from mmmaskclip.checkpoints.export.transformers import tokenizer_files
from mmmaskclip.checkpoints.export.words import tokenizer_file
from mmmaskclip.checkpoints.files import sha256_of

GRAPHS = ('onnx', 'torchscript')
# For ONNX. 2.6, 2.7.1, 2.8 and 2.9.1 fail: they take the batch or the image size of the example for constants.
OLDEST_TORCH = '2.10'


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


def export_graphs(
    model: Any,
    to: str,
    folder: str | os.PathLike,
    read_out: Any = 'patch',
    precisions: Sequence[str] = (),
    card: Mapping[str, Any] | None = None,
    photos: Tensor | None = None,
) -> dict[str, str]:
    """Write ``image``, ``text`` and ``dense`` as three files, the preprocessing, the tokenizer and a model card.

    The batch is of any size, captions of any length up to the context length. In ONNX the image is of any size too, in
    whole patches: the graph interpolates the positions. A TorchScript trace takes images of the model's own size. So
    does the ONNX graph of a tower of timm, and of one that attends between neighbours: it holds who is whose neighbour
    as a constant. Captions of a tower that reads their last word (SigLIP) have its full context length.
    Inputs are normalized images (B, 3, H, W), float32, and token ids (T, L), int64; outputs are L2-normalized.

    Args:
        model: A built ``ImageTextPretrainer`` with its weights; put into eval mode.
        to: ``'onnx'`` (needs onnx and onnxscript) or ``'torchscript'``.
        folder: Where; made if need be.
        read_out: Of ``dense``, see ``ImageTextPretrainer.encode_dense``. Defaults to ``'patch'``.
        precisions: Of ``'fp16'`` and ``'int8'``: which smaller graphs to write too, ``image.fp16.onnx`` and so on, see
            :func:`~mmmaskclip.checkpoints.export.small_graphs.write_small`. Defaults to none.
        card: See :func:`~mmmaskclip.checkpoints.export.folder.export_folder`.
        photos: Normalized images (B, 3, H, W) on which smaller graphs are compared. Defaults to four images of noise.

    Returns:
        SHA-256 by the name of each file of weights.

    Raises:
        ImportError: If a package that ONNX needs is missing, or torch is older than :data:`OLDEST_TORCH`.
        NotExpressible: If the model has no text tower, or windows; if its tokenizer is not there; or if images are of
            variable shapes.
        ValueError: If smaller graphs are asked of TorchScript.
    """
    if precisions and to != 'onnx':
        raise ValueError(f"precisions={list(precisions)} are written by ONNX Runtime: choose to='onnx'")
    check_parts(model)
    tokenizer = _tokenizer(model.text_encoder)
    _check_resize(model, _any_size(model, to))
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model = model.eval().cpu().requires_grad_(False)
    files, errors = [], {}
    for name, (part, example, dynamic) in _parts(model, read_out, _any_size(model, to)).items():
        path = folder / f'{name}.{"onnx" if to == "onnx" else "pt"}'
        with warnings.catch_warnings(), torch.no_grad():
            # Traced values become constants where they depend on the image size of a trace only.
            warnings.simplefilter('ignore')
            if to == 'onnx':
                _to_onnx(part, example, dynamic, path)
            else:
                torch.jit.trace(part, example, check_trace=False).save(str(path))
        files.append(path)
        for precision in precisions:
            small = path.with_suffix(f'.{precision}.onnx')
            given = photos if photos is not None and name != 'text' else _probe(example, model.text_encoder)
            errors[small.name] = write_small(path, small, precision, given)
            files.append(small)
    digests = {path.name: sha256_of(path) for path in files}
    texts = {'preprocess.json': preprocess_of(Pixels(**pixels_of(model))), **tokenizer}
    for file, content in texts.items():
        if isinstance(content, bytes):
            (folder / file).write_bytes(content)
        else:
            (folder / file).write_text(as_text(content), encoding='utf-8')
    (folder / 'README.md').write_text(model_card(to, digests, card or {}, errors, photos is not None), encoding='utf-8')
    return digests


def _any_size(model: Any, to: str) -> bool:
    image = model.image_encoder
    # timm computes rotary positions and interpolates learned ones in Python, for the size of the trace alone.
    return to == 'onnx' and getattr(image, 'neighbourhood', None) is None and not is_trunk(image)


def _check_resize(model: Any, any_size: bool) -> None:
    """Refuse images of variable shapes where a graph has one."""
    mode = pixels_of(model)['resize_mode']
    if mode == 'patches' and not any_size:
        raise NotExpressible(
            "images keep their aspect ratio (resize_mode='patches'), and this graph takes those of one shape: train "
            "with data_preprocessor.resize_mode='squash', at the size of image_encoder.img_size"
        )


def _tokenizer(text: Any) -> dict[str, Any]:
    """Texts of the files by which captions become the text graph's tokens."""
    file = tokenizer_file(text)
    if file is None:
        return tokenizer_files(text.context_length)
    return {file.name: file.read_bytes(), 'tokenizer.options.json': dict(text.tokenizer, file=file.name)}


def _parts(model: Any, read_out: Any, free_size: bool) -> dict[str, tuple[nn.Module, Tensor, dict]]:
    """Modules by name, each with an example and its free dimensions."""
    height, width = model.image_encoder.img_size
    if free_size:  # another grid than the positions have, or the trace would not interpolate them
        step = model.image_encoder.patch_size
        height, width = height + step[0], width + 2 * step[1]
    free = torch.export.Dim.DYNAMIC
    # More than one, so that no size is taken for a constant.
    images = torch.zeros(2, 3, height, width)
    text = model.text_encoder
    # A tower that reads the last word takes captions of its full length alone.
    tokens = torch.ones(2, text.context_length if text.pool == 'last' else min(5, text.context_length)).long()
    tokens[:, -1] = text.token_embedding.num_embeddings - 1
    lengths: dict[int, Any] = {0: torch.export.Dim('batch', min=1)}
    if text.pool != 'last':
        lengths[1] = torch.export.Dim('length', min=2, max=text.context_length)
    sizes = {0: free, 2: free, 3: free} if free_size else {0: free}
    return {
        'image': (_Image(model), images, sizes),
        'text': (_Text(model), tokens, lengths),
        'dense': (_Dense(model, read_out), images, sizes),
    }


def _probe(example: Tensor, text: Any) -> Tensor:
    """Four smooth images of noise, or captions of words drawn at random, of the example's size."""
    generator = torch.Generator().manual_seed(0)
    if example.dtype == torch.int64:
        vocab_size = text.token_embedding.num_embeddings
        tokens = torch.randint(1, vocab_size - 2, (4, example.shape[1]), generator=generator)
        tokens[:, -1] = vocab_size - 1
        return tokens
    coarse = torch.randn(4, 3, 8, 8, generator=generator)
    return nn.functional.interpolate(coarse, tuple(example.shape[2:]), mode='bicubic')


def _to_onnx(part: nn.Module, example: Tensor, dynamic: dict, path: Path) -> None:
    if version.parse(torch.__version__) < version.parse(OLDEST_TORCH):
        raise ImportError(
            f'torch {torch.__version__} cannot export ONNX graphs whose batch and image size are free; {OLDEST_TORCH} '
            "is the oldest that can: pip install -U torch torchvision, or choose to='torchscript'."
        )
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
