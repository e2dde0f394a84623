"""Merge the adapters of a LoRA fine-tuning into the weights, for use without them.

python tools/model_converters/merge_lora.py CHECKPOINT OUT.pth

OUT.pth has the parameter names and the config of a model without adapters. mmmaskclip.load, tools/test.py --model auto,
export.py and mix_weights.py read it. They also read a checkpoint with adapters, and merge it while they read it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmmaskclip.checkpoints.adapters import has_adapters, merge_adapters
from mmmaskclip.checkpoints.config_text import model_config
from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.checkpoints.safe_load import read_checkpoint, state_dict_of


def main(argv: Sequence[str] | None = None) -> None:
    """Read a checkpoint, merge it, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='checkpoint of a run with model.lora')
    parser.add_argument('out', help='file to write')
    args = parser.parse_args(argv)
    checkpoint = read_checkpoint(args.checkpoint)
    state_dict = state_dict_of(checkpoint, args.checkpoint)
    if not has_adapters(state_dict):
        parser.error(f'{args.checkpoint} has no adapters: it is of a run without model.lora')
    merged: dict[str, Any] = {'state_dict': merge_adapters(state_dict)}
    text = (checkpoint.get('meta') or {}).get('cfg')
    model = model_config(text) if isinstance(text, str) else None
    if model is not None:
        model.pop('lora', None)
        merged['meta'] = {'cfg': f'model = {model!r}\n'}
    write_checkpoint(args.out, merged)
    print(f'{len(state_dict) - len(merged["state_dict"])} tensors of adapters merged: {args.out}')


if __name__ == '__main__':
    main()
