"""Convert an OpenAI or OpenCLIP ViT checkpoint to a checkpoint of ``ImageTextPretrainer``.

python tools/model_converters/convert_open_clip.py open_clip_pytorch_model.bin clip_vitb16.pth
"""

import argparse
from pathlib import Path

import torch

from mmmaskclip.checkpoints.formats.open_clip import convert_open_clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('source', type=Path, help='state dict saved by torch, or a safetensors file')
    parser.add_argument('target', type=Path, help='checkpoint to write')
    args = parser.parse_args()
    if args.source.suffix == '.safetensors':
        from safetensors.torch import load_file

        state_dict = load_file(args.source)
    else:
        # Never runs code from the file.
        state_dict = torch.load(args.source, map_location='cpu', weights_only=True)
    state_dict = state_dict.get('state_dict', state_dict)
    state_dict = {name.removeprefix('module.'): value for name, value in state_dict.items()}
    torch.save({'state_dict': convert_open_clip(state_dict), 'meta': {}}, args.target)
    print(f'{len(state_dict)} tensors converted: {args.target}')


if __name__ == '__main__':
    main()
