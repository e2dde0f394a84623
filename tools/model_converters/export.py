r"""Export a checkpoint for another library: open_clip, transformers, timm, ONNX or TorchScript.

python tools/model_converters/export.py work_dirs/clip/vitb16_cc3m/epoch_25.pth --to open_clip --out exported
python tools/model_converters/export.py epoch_25.pth --config CONFIG --to onnx --out exported --read-out value \
    --precision fp16 int8 --photos photos/*.jpg

The first three write a folder that the library loads by its own means. Each folder has the preprocessing, the tokenizer
where the format reads one, and a model card.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmmaskclip.apis.images import open_image
from mmmaskclip.checkpoints.export.folder import FORMATS, export_folder
from mmmaskclip.checkpoints.export.graphs import GRAPHS, export_graphs
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.checkpoints.export.small_graphs import PRECISIONS
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.models.from_pretrained import from_pretrained, preprocessing
from mmmaskclip.registry import MODELS


def main(argv: Sequence[str] | None = None) -> None:
    """Write the folder and print the SHA-256 of its files."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('checkpoint', help='a checkpoint of ours, or anything else that from_pretrained takes')
    parser.add_argument('--config', help='the config it was trained with [the one in the checkpoint]')
    parser.add_argument('--to', required=True, choices=(*FORMATS, *GRAPHS))
    parser.add_argument('--out', required=True, type=Path, help='the folder to write')
    parser.add_argument('--read-out', default='patch', help='of the dense output of ONNX and TorchScript [patch]')
    parser.add_argument(
        '--precision', nargs='+', default=[], choices=PRECISIONS, help='smaller ONNX graphs to write too [none]'
    )
    parser.add_argument('--photos', nargs='+', help='images on which smaller graphs are compared [noise]')
    parser.add_argument('--metrics', type=Path, help='for the model card: what tools/test.py --out wrote')
    for key in ('data', 'recipe', 'license'):
        parser.add_argument(f'--{key}', help=f'for the model card: {key}')
    args = parser.parse_args(argv)
    if args.precision and args.to != 'onnx':
        parser.error(f'--precision writes smaller ONNX graphs, and --to is {args.to}: leave --precision out')
    if args.photos and not args.precision:
        parser.error('--photos is for the comparison of smaller graphs: give --precision, or leave --photos out')
    card: dict[str, Any] = {key: getattr(args, key) for key in ('data', 'recipe', 'license')}
    card['source'] = Path(args.checkpoint).name
    if args.metrics:
        card['metrics'] = json.loads(args.metrics.read_text())['metrics']
    if args.config:
        config = Config.fromfile(args.config)
        config.model.pop('compiled', None)
        model = MODELS.build(config.model).eval()
        load_weights(model, args.checkpoint)
        card['recipe'] = card['recipe'] or f'config {args.config}'
    else:
        model = from_pretrained(args.checkpoint).model
    try:
        if args.to in FORMATS:
            digests = export_folder(model, args.to, args.out, card)
        else:
            photos = None
            if args.photos:
                photos = torch.stack([preprocessing(model)(open_image(photo)) for photo in args.photos])
            digests = export_graphs(model, args.to, args.out, args.read_out, args.precision, card, photos)
    except (ImportError, NotExpressible, ValueError) as error:
        parser.error(str(error))
    for name, digest in digests.items():
        print(f'{args.out / name}\nsha256 {digest}')
    if args.precision:
        print((args.out / 'README.md').read_text().partition('Against')[2].partition('##')[0])


if __name__ == '__main__':
    main()
