import mmengine.dataset.sampler
import pytest

from mmmaskclip.engine import ResumableSampler


def order(sampler, epoch, seed=0, start_batch=0):
    sampler.begin_epoch(epoch=epoch, seed=seed, batch_size=2, start_batch=start_batch)
    return list(sampler)


def test_start_batch_leaves_out_exactly_the_batches_before_it():
    whole = order(ResumableSampler(range(10)), epoch=3)
    late = order(ResumableSampler(range(10)), epoch=3, start_batch=2)
    assert late == whole[4:]
    assert sorted(whole) == list(range(10))


def test_order_depends_on_epoch_and_seed_and_on_nothing_else():
    sampler = ResumableSampler(range(20), seed=123)
    first = order(sampler, epoch=0)
    assert order(sampler, epoch=1) != first
    assert order(sampler, epoch=0, seed=1) != first
    assert order(ResumableSampler(range(20), seed=456), epoch=0) == first


def test_length_stays_that_of_a_whole_epoch():
    sampler = ResumableSampler(range(10))
    order(sampler, epoch=0, start_batch=3)
    assert len(sampler) == 10


@pytest.mark.parametrize('shuffle', [True, False])
def test_takes_the_arguments_of_default_sampler(shuffle):
    sampler = ResumableSampler(range(6), shuffle=shuffle, round_up=True)
    assert (order(sampler, epoch=0) == list(range(6))) is not shuffle


@pytest.mark.parametrize('round_up', [True, False])
def test_no_rank_repeats_a_sample_or_has_one_more(monkeypatch, round_up):
    ranks = []
    for rank in range(4):
        monkeypatch.setattr(mmengine.dataset.sampler, 'get_dist_info', lambda rank=rank: (rank, 4))
        sampler = ResumableSampler(range(11), seed=0, round_up=round_up)
        ranks.append(order(sampler, epoch=0))
        assert len(sampler) == len(ranks[-1]) == 2
    assert len({index for indices in ranks for index in indices}) == 8
