"""Convert a CLIP of OpenAI, OpenCLIP or Hugging Face to a checkpoint of ``ImageTextPretrainer``.

python tools/model_converters/convert_open_clip.py open_clip_pytorch_model.bin clip_vitb16.pth

Nothing needs the converted file: load_from, init_cfg, tools/test.py and the inferencer read the original.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.translate import convert_weights, format_of


def main(argv: Sequence[str] | None = None) -> None:
    """Write the checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='checkpoint of any of these libraries')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    args = parser.parse_args(argv)
    state_dict = read_state_dict(args.source)
    if format_of(state_dict) is None:
        parser.error(f'{args.source} is of no ViT CLIP of OpenAI, OpenCLIP or Hugging Face: nothing to convert')
    write_checkpoint(args.target, {'state_dict': convert_weights(state_dict, args.source), 'meta': {}})
    print(f'{len(state_dict)} tensors converted: {args.target}')


if __name__ == '__main__':
    main()
