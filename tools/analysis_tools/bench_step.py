"""Time complete training steps of several models side by side, without data loading.

python tools/analysis_tools/bench_step.py open_clip:ViT-B-16+compiled configs/clip/vitb16_laion20m.py+compiled --parts

A contender is a pretraining config, or ``open_clip:NAME`` for OpenCLIP with OpenCLIP's loss and AdamW; ``+compiled`` at
the end turns torch.compile on, and ``CONFIG@KEY=VALUE,KEY=VALUE`` changes a config as ``--cfg-options`` does. All
contenders get the same caption lengths, and batches already on the device. The contenders take turns, so that a change
of the machine's load affects all of them. The table gives medians and ratios to the first contender. The share compares
the rate with that of a large matrix product, measured in the same run.
"""

import argparse
import json

import torch

from mmmaskclip.analysis.contenders import (
    DTYPES,
    Conditions,
    build_contenders,
    compare,
    matrix_ceiling,
    table_of_parts,
    table_of_steps,
)
from mmmaskclip.analysis.step_parts import lines_that_wait, profile_step
from mmmaskclip.engine.registration import register_all_modules


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('contenders', nargs='+', help='CONFIG[@KEY=VALUE,...] or open_clip:NAME, +compiled')
    parser.add_argument('--batch-size', type=int, help="images per step [the config's]")
    parser.add_argument('--caption-length', type=int, default=26, help='tokens of the longest caption [26]')
    parser.add_argument('--shortest-caption', type=int, default=8, help='tokens of the shortest caption [8]')
    parser.add_argument(
        '--steps', type=int, default=20, help='timed turns of each contender, a step each on a CPU, four on a GPU [20]'
    )
    parser.add_argument('--warm-up', type=int, default=3, help='untimed first turns of each contender [3]')
    parser.add_argument('--precision', choices=DTYPES, help='[bf16 on a GPU, fp32 on a CPU]')
    parser.add_argument('--parts', action='store_true', help='also print the time of each part of the model')
    parser.add_argument('--profile', action='store_true', help='also print kernels, and the lines where the host waits')
    parser.add_argument('--json', metavar='FILE', help='also write the table to this file')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    register_all_modules()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    precision = args.precision or ('bf16' if device == 'cuda' else 'fp32')
    conditions = Conditions(device, precision, args.batch_size, args.caption_length, args.shortest_caption)
    contenders = build_contenders(args.contenders, conditions)
    ceiling = matrix_ceiling(device, DTYPES[precision])
    rows = compare(contenders, args.steps, args.warm_up, ceiling)
    machine = torch.cuda.get_device_name() if device == 'cuda' else f'CPU, {torch.get_num_threads()} threads'
    print(
        f'torch {torch.__version__}, {machine}, {precision}, captions of {args.shortest_caption} to '
        f'{args.caption_length} tokens, median of {args.steps} turns, matrix products {ceiling / 1e12:.2f} TFLOP/s'
    )
    print(table_of_steps(rows))
    for contender in contenders if args.profile else ():
        kinds, longest = profile_step(contender.run, device)
        print(f'\n{contender.name}, ms by kind of kernel, and of the longest kernels:')
        print('\n'.join(f'  {spent:8.2f} {name[:100]}' for name, spent in [*kinds.items(), ('', 0.0), *longest]))
        for place in lines_that_wait(contender.run) if device == 'cuda' else ():
            print(f'the host waits at {place}')
    parts = {contender.name: contender.parts(max(1, args.steps // 4)) for contender in contenders if args.parts}
    if parts:
        print('\nms by part; the device is waited for at every border\n' + table_of_parts(parts))
    if args.json:
        with open(args.json, 'w') as file:
            settings = vars(args) | dict(precision=precision, machine=machine, torch=torch.__version__)
            json.dump(settings | dict(ceiling=ceiling, rows=rows, parts=parts), file, indent=1)


if __name__ == '__main__':
    main()
