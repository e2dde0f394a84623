"""Publish the weights of a checkpoint as safetensors. Reading such a file cannot run code.

python tools/model_converters/publish_model.py work_dirs/clip/vitb16_cc3m/iter_9000.pth clip_vitb16_cc3m.safetensors
python tools/model_converters/publish_model.py iter_9000.pth tower.safetensors --image-tower

Optimizer, schedules and log are left out. Both files are read by tools/test.py and by init_cfg of the image tower.
The first also holds the config of its model, so that from_pretrained and --model auto need no other. For other
libraries see export.py.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from mmmaskclip.checkpoints.adapters import merge_adapters
from mmmaskclip.checkpoints.config_text import model_config
from mmmaskclip.checkpoints.files import verify_checkpoint
from mmmaskclip.checkpoints.safe_load import read_checkpoint, state_dict_of
from mmmaskclip.version import __version__

_TOWER = 'image_encoder.'


def main(argv: Sequence[str] | None = None) -> None:
    """Write the file and print its SHA-256."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='checkpoint of a run')
    parser.add_argument('target', type=Path, help='.safetensors file to write')
    parser.add_argument(
        '--image-tower', action='store_true', help=f'only the image tower, whose names begin with {_TOWER}'
    )
    args = parser.parse_args(argv)
    if args.target.suffix != '.safetensors':
        parser.error(f'{args.target}: the name must end in .safetensors')
    problem = verify_checkpoint(args.source)
    if problem:
        parser.error(f'{args.source}: {problem}')
    checkpoint = read_checkpoint(args.source)
    weights = merge_adapters(state_dict_of(checkpoint, args.source))
    model = None if args.image_tower else _model_of(checkpoint)
    if args.image_tower:
        weights = {name: value for name, value in weights.items() if name.startswith(_TOWER)}
        if not weights:
            parser.error(f'{args.source} holds no weights {_TOWER}*: leave --image-tower out')
    digest = publish(weights, args.target, args.source.name, model)
    print(f'{len(weights)} tensors: {args.target}\nsha256 {digest}')


def _model_of(checkpoint: dict) -> dict | None:
    text = (checkpoint.get('meta') or {}).get('cfg')
    try:
        return model_config(text) if isinstance(text, str) else None
    except ValueError as error:
        print(f'Without the config of the model: {error}')
        return None


def publish(weights: dict[str, Tensor], target: Path, source: str, model: dict | None = None) -> str:
    """Write tensors to a safetensors file with an atomic write.

    Args:
        weights: Tensors by name.
        target: The file; its folder is created if it does not exist.
        source: Name of the checkpoint, for the file's metadata.
        model: Config of the model, for the file's metadata. The rest of a run's config is left out, because it names
            folders of this machine. Defaults to None.

    Returns:
        The file's SHA-256.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f'.{target.name}.tmp')
    # Copies, because the format does not allow tensors that share memory, such as tied weights.
    tensors = {name: value.contiguous().clone() for name, value in weights.items()}
    metadata = {'format': 'pt', 'source': source, 'mmmaskclip': __version__}
    if model is not None:
        metadata['cfg'] = f'model = {model!r}'
    try:
        save_file(tensors, temporary, metadata=metadata)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return digest


if __name__ == '__main__':
    main()
