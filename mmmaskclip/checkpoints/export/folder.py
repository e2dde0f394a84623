"""The folder of an export: weights, configs, tokenizer and a model card, written atomically."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from mmmaskclip.checkpoints.adapters import merge_adapters
from mmmaskclip.checkpoints.export.card import as_text, model_card
from mmmaskclip.checkpoints.export.open_clip import to_open_clip
from mmmaskclip.checkpoints.export.timm import to_timm
from mmmaskclip.checkpoints.export.transformers import processor_files, to_transformers
from mmmaskclip.checkpoints.export.words import file_tokenizer_texts
from mmmaskclip.checkpoints.files import sha256_of
from mmmaskclip.version import __version__

FORMATS = ('open_clip', 'transformers', 'timm')


def export_folder(
    model: Any, to: str, folder: str | os.PathLike, card: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Write a model as another library's folder.

    Args:
        model: A built ``ImageTextPretrainer`` with its weights; for timm also a model of the image tower alone.
        to: ``'open_clip'``, ``'transformers'`` or ``'timm'``.
        folder: Where; it must not exist, or be empty.
        card: For the model card: ``data``, ``recipe``, ``metrics`` (by name), ``license`` and ``source``. What is left
            out is said to be unknown.

    Returns:
        SHA-256 by the name of each file of weights.

    Raises:
        FileExistsError: If there is something in the folder.
        NotExpressible: If the library cannot build the model; the message says what would be lost and what to do.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f'{str(folder)!r} is not empty: name another folder, or remove it')
    state_dict, files = merge_adapters(model.state_dict()), dict[str, Any]()
    if to == 'open_clip':
        files['open_clip_config.json'], weights = to_open_clip(model, state_dict)
        if model.text_encoder.tokenizer is not None:
            files |= file_tokenizer_texts(model.text_encoder)
        name = 'open_clip_model.safetensors'
    elif to == 'transformers':
        files['config.json'], weights = to_transformers(model, state_dict)
        files |= processor_files(model)
        name = 'model.safetensors'
    elif to == 'timm':
        files['config.json'], weights = to_timm(model, state_dict)
        name = 'model.safetensors'
    else:
        raise ValueError(f'to={to!r}: choose one of {", ".join(FORMATS)}')
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f'.{folder.name}.', suffix='.tmp', dir=folder.parent))
    try:
        # Copies, because the format has no tensors that share memory.
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in weights.items()}
        save_file(tensors, temporary / name, metadata={'format': 'pt', 'mmmaskclip': __version__})
        digest = sha256_of(temporary / name)
        for file, content in files.items():
            (temporary / file).write_text(as_text(content), encoding='utf-8')
        (temporary / 'README.md').write_text(model_card(to, {name: digest}, card or {}), encoding='utf-8')
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {name: digest}
