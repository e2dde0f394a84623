"""Makes CLIP_benchmark evaluate checkpoints of this package. ``tools/benchmark_clip.py`` is the command.

CLIP_benchmark knows several libraries, each as a *model type* with a function that loads a model. :func:`run` adds the
model type ``mmmaskclip`` with :func:`load_model`, and starts CLIP_benchmark's own command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmmaskclip.apis.inferencer import ImageTextInferencer
from mmmaskclip.models.from_pretrained import from_pretrained, preprocessing, tokenizer_of

_DEFAULTS = {'--model_type': 'mmmaskclip', '--model': 'auto', '--output': '{dataset}_{task}.json'}


def load_model(
    model_name: str, pretrained: str, cache_dir: str | None = None, device: str | torch.device = 'cpu'
) -> tuple[nn.Module, Callable, Callable]:
    """Load a model for CLIP_benchmark, which sets the names of the arguments.

    Args:
        model_name: Path of the config that the checkpoint was trained with. ``'auto'`` finds the model from the
            checkpoint, see :func:`~mmmaskclip.models.from_pretrained.from_pretrained`.
        pretrained: The checkpoint, or another source that ``from_pretrained`` takes.
        cache_dir: Not used: downloads of this package have their own cache.
        device: Device of the model. Defaults to ``'cpu'``.

    Returns:
        The model, a function from a PIL image to the model's input, and the tokenizer. CLIP_benchmark calls the model's
        ``encode_image`` and ``encode_text``.
    """
    if model_name == 'auto':
        loaded: Any = from_pretrained(pretrained)
        model, transform, tokenizer = loaded.model, loaded.preprocess, loaded.tokenizer
    else:
        model = ImageTextInferencer(model_name, pretrained, device='cpu').model
        transform, tokenizer = preprocessing(model), tokenizer_of(model.text_encoder)
    return model.eval().to(device), transform, tokenizer


def _accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Shares of the rows of logits (N, C) whose class (N,) is among the first k."""
    hits = output.topk(max(topk), dim=1).indices == target[:, None]  # (N, k)
    return [hits[:, :k].any(dim=1).float().mean().item() for k in topk]


def run(argv: Sequence[str]) -> None:
    """Run CLIP_benchmark's command. Its default model type is ``mmmaskclip`` here.

    Args:
        argv: Arguments of CLIP_benchmark, which begin with ``eval`` or ``build``. ``--model`` and ``--pretrained`` have
            the meaning that :func:`load_model` describes.

    Raises:
        SystemExit: If CLIP_benchmark or one of its dependencies is not installed. Names the command that installs it.
    """
    try:
        from clip_benchmark import cli, models
        from clip_benchmark.metrics import linear_probe, zeroshot_classification
    except ImportError as error:
        raise SystemExit(f'error: CLIP_benchmark cannot be imported ({error}): pip install clip-benchmark') from error
    models.TYPE2FUNC['mmmaskclip'] = load_model
    if 'mmmaskclip' not in models.MODEL_TYPES:
        models.MODEL_TYPES.append('mmmaskclip')
    # CLIP_benchmark 1.6.2's own function calls float() on an array of one number, which NumPy 2.4 refuses.
    linear_probe.accuracy = zeroshot_classification.accuracy = _accuracy
    arguments = list(argv)
    if arguments[:1] == ['eval']:
        for option, value in _DEFAULTS.items():
            if not any(argument.split('=')[0] == option for argument in arguments):
                arguments += [option, value]
    # CLIP_benchmark's main reads sys.argv and takes no arguments.
    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        cli.main()
    finally:
        sys.argv = before
