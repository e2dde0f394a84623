"""Print the cost of a training step of each config: parameters and floating-point operations by part, in tables.

python tools/analysis_tools/get_cost.py configs/clip/vitb16_laion20m.py configs/slip/vitb16_laion20m.py \
    configs/clip_mae/vitb16_laion20m_v1.py configs/clip_beit/vitb16_laion20m.py configs/maskclip/vitb16_laion20m_v1.py

The tool counts the operations of forward and backward pass for one image and its caption. A multiplication and an
addition are two operations. The ratio is to the first config. Operations are counted on meta tensors, so the tool needs
neither a GPU nor memory for the models. The column "paper" is the measured time in the paper's Table 1, for ViT-B/16.

The default caption lengths are 77 tokens, to which the papers' code pads, and the mean length of Flickr8k's captions.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from mmengine.config import Config

from mmmaskclip.analysis.cost import PARTS, parameter_counts, step_flops
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.utils.tables import format_table

# The mean of the 30,455 captions of Flickr8k's training images is 14.1 tokens, start and end included.
_CAPTION_LENGTHS = (77, 14)

# MaskCLIP, arXiv v1, Table 1: time relative to CLIP's, by the objectives besides the contrast.
_PAPER = {
    (): 1.00,
    ('ImageContrast',): 2.67,
    ('PixelReconstruction',): 1.30,
    ('VisualTokenPrediction',): 1.82,
    ('MaskedSelfDistillation',): 1.56,
}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='pretraining configs; the first is the reference of the ratios')
    parser.add_argument(
        '--batch-size', type=int, default=2, help='images of the step; only the cost of the losses depends on it [2]'
    )
    parser.add_argument(
        '--caption-length',
        type=int,
        nargs='+',
        default=_CAPTION_LENGTHS,
        metavar='N',
        help=f'tokens of every caption, start and end included {list(_CAPTION_LENGTHS)}',
    )
    return parser.parse_args(argv)


def paper_time(cfg: Config) -> float | None:
    """The paper's time, relative to CLIP's, for the method of a config; None if Table 1 lacks the method."""
    model = cfg.model
    objectives = [objective for objective in (model.get('objectives') or {}).values() if objective]
    others = sorted(objective.type for objective in objectives if objective.type != 'ImageTextContrast')
    contrast = [o.get('loss', {}).get('type', 'InfoNCELoss') for o in objectives if o.type == 'ImageTextContrast']
    is_v1 = all(
        o.get('target', 'ema') == 'ema' and o.loss.type == 'FeatureRegressionLoss'
        for o in objectives
        if o.type == 'MaskedSelfDistillation'
    )
    in_table = contrast == ['InfoNCELoss'] and is_v1 and model.image_encoder.get('arch') == 'ViT-B/16'
    return _PAPER.get(tuple(others)) if in_table else None


def count(cfg: Config, batch_size: int, caption_length: int) -> dict[str, float]:
    """Operations by part, counted on meta tensors, or on the CPU if an operation does not support meta tensors."""
    try:
        return step_flops(cfg, batch_size, caption_length)
    except NotImplementedError:  # mmpretrain's SimCLR selects by a boolean mask
        return step_flops(cfg, batch_size, caption_length, device='cpu')


def parameter_table(configs: dict[str, Config]) -> str:
    """A table of the parameters in millions."""
    rows = []
    for path, cfg in configs.items():
        counts = parameter_counts(cfg)
        rows.append([path, *(f'{counts.get(name, 0) / 1e6:.1f} M' for name in ('trained', 'all', 'targets'))])
    return format_table(rows, ['config', 'trained', 'all', 'of them targets'], markdown=True)


def flops_table(configs: dict[str, Config], flops: dict[str, dict[str, float]]) -> str:
    """A table of GFLOPs per image by part. Parts that no config has get no column."""
    parts = [part for part in PARTS if any(part in row for row in flops.values())]
    reference = sum(next(iter(flops.values())).values())
    rows = []
    for path, row in flops.items():
        total, paper = sum(row.values()), paper_time(configs[path])
        cells = [f'{row[part] / 1e9:.2f}' if part in row else '' for part in parts]
        cells += [f'{total / 1e9:.2f}', f'{total / reference:.2f}x', f'{paper:.2f}x' if paper else '']
        rows.append([path, *cells])
    return format_table(rows, ['config', *parts, 'all', 'ratio', 'paper (time)'], markdown=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    args = parse_args(argv)
    register_all_modules()
    configs = {path: Config.fromfile(path) for path in args.configs}
    print(f'Parameters\n\n{parameter_table(configs)}')
    for length in args.caption_length:
        flops = {path: count(cfg, args.batch_size, length) for path, cfg in configs.items()}
        print(f'\nGFLOPs per image, forward and backward, captions of {length} tokens, batch of {args.batch_size}\n')
        print(flops_table(configs, flops))


if __name__ == '__main__':
    sys.exit(main())
