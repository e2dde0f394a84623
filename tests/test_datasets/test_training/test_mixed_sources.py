import os
from collections import Counter
from itertools import chain
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from mmmaskclip.datasets import ClassCaptionShards, MixedSources, collate_image_text
from mmmaskclip.datasets.training import image_text_shards, mixed_sources
from mmmaskclip.registry import DATASETS


@pytest.fixture
def sources(make_shards, tools, tmp_path):
    """40 image-text pairs, three of each batch, and 14 labelled images, two of each: 13 and 7 batches an epoch."""
    pairs = make_shards(18, 22, folder='pairs')
    samples = {f'{i:03d}': {'jpg': tools.good(i)['jpg'], 'cls': str(i % 3).encode()} for i in range(14)}
    labelled = tools.write_tar(tmp_path / '00000.tar', samples)
    common = dict(views=tools.views, shuffle_buffer=5)
    return dict(
        pairs=dict(dataset=dict(type='ImageTextShards', urls=pairs, **common), per_batch=3),
        labelled=dict(
            dataset=dict(
                type='ClassCaptionShards', urls=labelled, classes=['a', 'b', 'c'], templates=['the {}'], **common
            ),
            per_batch=2,
        ),
    )


@pytest.fixture
def run(monkeypatch, sources):
    """Read an epoch as every (rank, worker) would, without processes; gives each rank's batches in loader order."""

    def run(world_size=1, num_workers=1, epoch=0, seed=0, start_batch=0, sources=sources):
        ranks = []
        for rank in range(world_size):
            monkeypatch.setattr(image_text_shards, 'get_dist_info', lambda rank=rank: (rank, world_size))
            dataset = MixedSources(sources)
            size = dataset.batch_size
            dataset.begin_epoch(epoch, seed, size, start_batch)
            streams = []
            for worker in range(num_workers):
                info = SimpleNamespace(id=worker, num_workers=num_workers)
                monkeypatch.setattr(mixed_sources, 'get_worker_info', lambda info=info: info)
                samples = list(dataset)
                assert len(samples) % size == 0
                streams.append([samples[i : i + size] for i in range(0, len(samples), size)])
            total = sum(map(len, streams))
            assert total == len(dataset) // size - start_batch
            ranks.append([streams[i % num_workers][i // num_workers] for i in range(total)])
        return ranks

    return run


def _keys(batches, source=''):
    return [[sample['key'] for sample in batch if sample['key'].startswith(source)] for batch in batches]


def _flat(batches, source=''):
    return [key for batch in _keys(batches, source) for key in batch]


@pytest.mark.parametrize(('world_size', 'num_workers'), [(1, 1), (1, 3), (2, 2)])
def test_every_batch_has_the_same_number_of_each_source(run, world_size, num_workers):
    for batches in run(world_size, num_workers):
        assert len(batches) == 40 // world_size // 3
        for batch in batches:
            assert Counter(sample['source'] for sample in batch) == {'pairs': 3, 'labelled': 2}


def test_samples(run):
    ((batch, *_),) = run()
    for sample in batch:
        if sample['source'] == 'pairs':
            assert sample['label'] == -1
            assert sample['key'].startswith('pairs/0000')
        else:
            assert sample['label'] == int(sample['key'][-3:]) % 3
            assert sample['key'].startswith('labelled/00000.tar/')
    assert DATASETS.get('MixedSources') is MixedSources
    collated = collate_image_text(batch)
    assert collated['source'] == ['pairs'] * 3 + ['labelled'] * 2
    assert collated['label'].dtype == torch.int64
    assert collated['image'].shape == (5, 3, 8, 8)


@pytest.mark.parametrize('num_workers', [1, 2, 3, 5])
def test_a_source_that_ends_starts_its_own_next_epoch(run, num_workers):
    batches = [batch for epoch in range(4) for batch in run(num_workers=num_workers, epoch=epoch)[0]]
    assert len(batches) == 52
    # Its seven batches have all 14 samples, wherever the first source's epochs of 13 begin.
    labelled = _keys(batches, 'labelled')
    for start in range(0, 49, 7):
        assert len({*chain(*labelled[start : start + 7])}) == 14
    assert labelled[:7] != labelled[7:14]
    for epoch in range(4):
        own = _flat(batches[13 * epoch : 13 * epoch + 13], 'pairs')
        assert len(set(own)) == 39
    seeds = [sample['seed'] for batch in batches for sample in batch]
    assert len(set(seeds)) == len(seeds)


@pytest.mark.parametrize('num_workers', [1, 2, 3])
@pytest.mark.parametrize('epoch', [0, 1])
def test_resume_inside_an_epoch(run, num_workers, epoch):
    (full,) = run(num_workers=num_workers, epoch=epoch)
    for start in (1, 5, 6, 7, 12, 13):
        (rest,) = run(num_workers=num_workers, epoch=epoch, start_batch=start)
        assert _keys(rest) == _keys(full)[start:]
        for a, b in zip(sum(rest, []), sum(full[start:], []), strict=True):
            assert a['seed'] == b['seed']
            assert torch.equal(a['image'], b['image'])
            assert torch.equal(a['tokens'], b['tokens'])


def test_resume_decodes_nothing_of_the_past(run, monkeypatch):
    decoded, decode = [], image_text_shards.decode_image
    monkeypatch.setattr(image_text_shards, 'decode_image', lambda *args: decoded.append(1) or decode(*args))
    run(start_batch=11)
    assert len(decoded) == 2 * 5


def test_order_is_a_function_of_seed_and_epoch(run):
    assert _keys(run(2, 2)[1]) == _keys(run(2, 2)[1])
    assert _keys(run(2, 2)[0]) != _keys(run(2, 2)[1])
    for source in ('pairs', 'labelled'):
        assert _flat(run(seed=1)[0], source) != _flat(run()[0], source)
        assert _flat(run(epoch=1)[0], source) != _flat(run()[0], source)


def test_a_source_does_not_depend_on_the_others(run, sources):
    alone = dict(pairs=sources['pairs'])
    assert _flat(run(sources=alone)[0]) == _flat(run()[0], 'pairs')


def test_ranks_share_no_sample(run):
    first, second = run(world_size=2)
    assert not set(_flat(first, 'pairs')) & set(_flat(second, 'pairs'))
    assert not set(_flat(first[:3], 'labelled')) & set(_flat(second[:3], 'labelled'))


def test_labels_of_two_sources_do_not_coincide(run, sources):
    both = dict(sources, more=sources['labelled'])
    (batches,) = run(sources=both)
    labels = {name: {s['label'] for b in batches for s in b if s['source'] == name} for name in both}
    assert labels == {'pairs': {-1}, 'labelled': {0, 1, 2}, 'more': {3, 4, 5}}
    seeds = {name: {s['seed'] for b in batches for s in b if s['source'] == name} for name in both}
    assert not seeds['labelled'] & seeds['more']


def test_bad_samples_name_their_source(tools, tmp_path, run, sources):
    samples = {f'{i:03d}': tools.bad('html')[0] if i == 4 else tools.good(i) for i in range(9)}
    url = tools.write_tar(tmp_path / 'b.tar', samples)
    sources['pairs']['dataset']['urls'] = url
    skipped = [record for batch in run(sources=sources)[0] for sample in batch for record in sample['skipped']]
    assert [(record['cause'], record['shard']) for record in skipped] == [('not_an_image', 'pairs/b.tar')]


@pytest.mark.parametrize('num_workers', [0, 2])
def test_real_loader_over_two_epochs(run, sources, num_workers):
    dataset = MixedSources(sources)
    loader = DataLoader(
        dataset,
        dataset.batch_size,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        drop_last=True,
        collate_fn=collate_image_text,
    )
    assert len(loader) == 13
    for epoch in range(2):
        dataset.begin_epoch(epoch, 0, 5)
        assert [batch['key'] for batch in loader] == _keys(run(num_workers=max(1, num_workers), epoch=epoch)[0])


def test_wrong_use_is_explained(sources, tools):
    dataset = MixedSources(sources)
    with pytest.raises(RuntimeError, match='call dataset.begin_epoch'):
        iter(dataset)
    with pytest.raises(ValueError, match='batch_size=8, but a batch of the sources has 3 pairs \\+ 2 labelled = 5'):
        dataset.begin_epoch(0, 0, 8)
    with pytest.raises(ValueError, match='start_batch=14, but an epoch has 13 batches'):
        dataset.begin_epoch(0, 0, 5, start_batch=14)
    with pytest.raises(ValueError, match='sources is empty'):
        MixedSources({})
    with pytest.raises(ValueError, match="source 'x' must be dict"):
        MixedSources(dict(x=sources['pairs']['dataset']))
    with pytest.raises(ValueError, match="source 'labelled' has 14 samples per rank, fewer than per_batch=15"):
        len(MixedSources(dict(sources, labelled=dict(sources['labelled'], per_batch=15))))
    other = dict(sources['labelled']['dataset'], views={'augmented_1': tools.views['image']})
    with pytest.raises(ValueError, match="source 'labelled' makes the views"):
        MixedSources(dict(sources, labelled=dict(dataset=other, per_batch=2)))
    with pytest.raises(ValueError, match="source 'x' is a list"):
        MixedSources(dict(x=dict(dataset=[], per_batch=1)))


def test_preflight_names_the_source(sources):
    dataset = MixedSources(sources)
    dataset.preflight()
    assert isinstance(dataset.datasets['labelled'], ClassCaptionShards)
    os.truncate(sources['labelled']['dataset']['urls'], 0)
    with pytest.raises(ValueError, match="source 'labelled': 1 of 1 shards cannot be used"):
        dataset.preflight()
