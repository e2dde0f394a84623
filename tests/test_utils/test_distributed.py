import errno
import os

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks

from mmmaskclip.utils.distributed import gather_rows, raise_everywhere


@pytest.mark.parametrize(
    ('sent', 'error'), [((True, errno.ENOSPC, 'full'), OSError), ((False, None, 'broken'), RuntimeError)]
)
def test_error_of_the_first_rank_is_raised_on_the_others(monkeypatch, sent, error):
    def broadcast(values):
        values[0] = sent

    monkeypatch.setattr('mmmaskclip.utils.distributed.broadcast_object_list', broadcast)
    with pytest.raises(error, match=sent[2]) as caught:
        raise_everywhere(None)
    assert getattr(caught.value, 'errno', None) == sent[1]


def gather_as_one_of_three() -> None:
    dist.init_process_group('gloo')
    rank = int(os.environ['RANK'])
    # Of a transposed matrix, whose memory is in another order; in float64, where the order of a sum leaves no trace.
    rows = (torch.arange(8.0, dtype=torch.float64).view(4, 2).T + 10 * rank).requires_grad_()
    gathered = gather_rows(rows)
    expected = torch.cat([torch.arange(8.0, dtype=torch.float64).view(4, 2).T + 10 * other for other in range(3)])
    assert torch.equal(gathered, expected)
    assert torch.equal(gather_rows(rows, with_grad=False), expected)
    weights = torch.arange(24.0, dtype=torch.float64).view(6, 4)
    (gathered * weights * (rank + 1)).sum().backward()
    # What every process asks of these rows, summed: 1 + 2 + 3 times the weights.
    assert torch.equal(rows.grad, 6 * weights[2 * rank : 2 * rank + 2])


def test_rows_are_gathered_in_rank_order_and_gradients_go_back_to_their_owner():
    run_ranks(gather_as_one_of_three, world_size=3)
