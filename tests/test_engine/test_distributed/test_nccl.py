"""What only GPUs can show: the same steps with NCCL, with one process on one GPU and with two where there are two."""

import os

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from mmmaskclip.utils.distributed import any_rank, gather_rows
from mmmaskclip.utils.store import on_rank_0

GPUS = torch.cuda.device_count() if torch.cuda.is_available() else 0


def needs(gpus: int):
    return pytest.mark.skipif(
        gpus > GPUS, reason=f'NCCL with {gpus} processes needs {gpus} GPUs, and torch sees {GPUS}'
    )


def _collectives() -> None:
    rank, world_size = int(os.environ['RANK']), int(os.environ['WORLD_SIZE'])
    torch.cuda.set_device(rank)
    dist.init_process_group('nccl')
    rows = torch.full((2, 3), float(rank), device='cuda', requires_grad=True)
    gathered = gather_rows(rows)
    assert gathered[:, 0].tolist() == [float(r) for r in range(world_size) for _ in range(2)]
    gathered.square().sum().backward()
    torch.testing.assert_close(rows.grad, 2.0 * world_size * rows.detach())
    assert gather_rows(rows, with_grad=False)[:, 0].tolist() == gathered[:, 0].tolist()
    assert any_rank(rank == world_size - 1)
    assert not any_rank(False)
    assert on_rank_0(lambda: 7, 'testing') == 7


@pytest.mark.parametrize('processes', [pytest.param(1, marks=needs(1)), pytest.param(2, marks=needs(2))])
def test_gathers_flags_and_waits_work_over_nccl(processes):
    run_ranks(_collectives, world_size=processes)
