"""Costs of many processes on one CPU: loss per rank of a large global batch, launches with a fake group, GPU hours.

python tools/analysis_tools/scaling.py --own 128 --global-batch 8192 65536 --ranks 32 1024

The loss is timed forward and backward. Random columns take the place of other ranks' rows. The process group is torch's
fake one, which sends nothing, so the time of a gather is the work of the host alone.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch.nn import functional as F
from torch.testing._internal.distributed.fake_pg import FakeStore

from mmmaskclip.analysis.scaling import CARDS, H100, contrast_bytes, gpu_hours, seconds_on
from mmmaskclip.contracts import Pairs
from mmmaskclip.models.losses import InfoNCELoss
from mmmaskclip.utils.distributed import gather_rows
from mmmaskclip.utils.tables import format_table

# One H100, batch 512, bf16, 2026-11-25, before the changes of docs/performance.md: images per second.
MEASURED = {
    'CLIP, blocks compiled': 2761,
    'MaskCLIP v1, eager': 1404,
    'MaskCLIP CVPR, eager': 1190,
    'fast, eager': 1556,
}


def median_seconds(run: Callable[[], None], times: int = 3) -> float:
    """Median time of a call after a first one."""
    seconds = []
    for _ in range(times + 1):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[1:])


def loss_seconds(own: int, total: int, max_logits: int) -> float:
    """InfoNCE of ``own`` rows against ``total`` columns, forward and backward."""
    columns = [F.normalize(torch.randn(total, 512), dim=-1).requires_grad_() for _ in range(2)]
    scale = torch.tensor(14.0, requires_grad=True)
    loss = InfoNCELoss(max_logits=max_logits)

    def run() -> None:
        loss(Pairs(columns[0][:own], columns[1][:own], *columns), scale).backward()

    return median_seconds(run)


def gather_milliseconds(ranks: int, own: int) -> float:
    """Host time of gathering ``own`` rows of 1,024 numbers of each rank, forward and backward, without sending."""
    dist.init_process_group('fake', rank=0, world_size=ranks, store=FakeStore())
    try:
        rows = torch.randn(own, 1024, requires_grad=True)
        return 1e3 * median_seconds(lambda: gather_rows(rows).sum().backward())
    finally:
        dist.destroy_process_group()


def hours_table(efficiency: float = 0.95) -> str:
    """GPU hours of the papers' run by method and card, in Markdown.

    Args:
        efficiency: Share of the rate of one GPU alone that each of many GPUs reaches. Defaults to 0.95, an assumption.
    """
    rows = []
    for name, rate in MEASURED.items():
        rates = [rate / seconds_on(card, 1.0) for card in CARDS]
        rows.append((name, *(f'{gpu_hours(each, 20e6, 25, efficiency):,.0f}' for each in rates)))
    return format_table(rows, ['20M pairs, 25 epochs, GPU hours', *(card.name for card in CARDS)], markdown=True)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--own', type=int, default=128, help='pairs of each rank [128]')
    parser.add_argument('--global-batch', type=int, nargs='+', default=[8192, 65536], help='[8192 65536]')
    parser.add_argument('--ranks', type=int, nargs='+', default=[32, 256, 1024], help='[32 256 1024]')
    parser.add_argument('--efficiency', type=float, default=0.95, help='rate that each of many GPUs keeps [0.95]')
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    for total in args.global_batch:
        for max_logits in (2**40, 2**21):
            held = contrast_bytes(args.own, total, max_logits) / 2**20
            rows.append((total, f'{held:.0f}', f'{loss_seconds(args.own, total, max_logits):.3f}'))
    print(format_table(rows, ['global batch', 'MiB of logits held', 's per step'], markdown=True), end='\n\n')
    rows = [(ranks, f'{gather_milliseconds(ranks, 4):.2f}') for ranks in args.ranks]
    print(format_table(rows, ['ranks', 'ms of host for a gather of 4 rows each'], markdown=True), end='\n\n')
    print(hours_table(args.efficiency))
    print(f'Measured on an {H100.name} alone; other cards by matrix rate and bandwidth; efficiency {args.efficiency}')


if __name__ == '__main__':
    main()
