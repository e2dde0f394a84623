import os
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

from mmmaskclip.datasets import ImageTextShards, collate_image_text
from mmmaskclip.datasets.sampling import NOTES
from mmmaskclip.datasets.training import image_text_shards, shard_reading
from mmmaskclip.datasets.training.shard_streams import permuted_shards
from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.registry import DATASETS

BATCH = 4


@pytest.fixture
def build(tools):
    def build(urls, **kwargs):
        return ImageTextShards(urls, **{'views': tools.views, 'shuffle_buffer': 5, **kwargs})

    return build


@pytest.fixture
def run(monkeypatch, build):
    """Read an epoch as every (rank, worker) would, without processes; gives each rank's batches in loader order."""

    def run(urls, world_size=1, num_workers=1, epoch=0, seed=0, start_batch=0, batch_size=BATCH, **kwargs):
        ranks = []
        for rank in range(world_size):
            monkeypatch.setattr(image_text_shards, 'get_dist_info', lambda rank=rank: (rank, world_size))
            dataset = build(urls, **kwargs)
            dataset.begin_epoch(epoch, seed, batch_size, start_batch)
            streams = []
            for worker in range(num_workers):
                info = SimpleNamespace(id=worker, num_workers=num_workers)
                monkeypatch.setattr(image_text_shards, 'get_worker_info', lambda info=info: info)
                samples = list(dataset)
                assert len(samples) % batch_size == 0
                streams.append([samples[i : i + batch_size] for i in range(0, len(samples), batch_size)])
            total = sum(map(len, streams))
            batches = [streams[i % num_workers][i // num_workers] for i in range(total)]
            assert total == len(dataset) // batch_size - start_batch
            ranks.append(batches)
        return ranks

    return run


def _keys(ranks):
    return [[[sample['key'] for sample in batch] for batch in batches] for batches in ranks]


def _flat(ranks):
    return [key for batches in _keys(ranks) for batch in batches for key in batch]


def test_sample(make_shards, build):
    dataset = build(make_shards(4), caption_key='json:captions')
    dataset.begin_epoch(0, 0, 4)
    samples = {sample['key']: sample for sample in dataset}
    assert set(samples) == {f'00000.tar/{i:05d}' for i in range(4)}
    sample = samples['00000.tar/00002']
    assert sample['image'].shape == (3, 8, 8)
    assert sample['image'].dtype == torch.uint8
    assert 0 <= sample['seed'] < 2**63
    assert sample['skipped'] == []
    choices = tokenize([f'caption 2 number {i}' for i in range(3)])
    assert any(torch.equal(sample['tokens'], choice) for choice in choices)
    assert DATASETS.get('ImageTextShards') is ImageTextShards


@pytest.mark.parametrize(('world_size', 'num_workers'), [(1, 1), (1, 5), (2, 2), (2, 4), (4, 3)])
@pytest.mark.parametrize('sizes', [(48,), (7, 11, 0, 30), (4,) * 12])
def test_every_sample_once(make_shards, run, world_size, num_workers, sizes):
    keys = _flat(run(make_shards(*sizes), world_size, num_workers))
    assert len(keys) == 48
    assert len(set(keys)) == 48


def test_a_rest_that_fills_no_batch_is_left_out(make_shards, run):
    ranks = run(make_shards(20, 9), world_size=2, num_workers=2)
    assert [len(batches) for batches in ranks] == [3, 3]
    assert len(set(_flat(ranks))) == 24


def test_order_is_a_function_of_seed_and_epoch(make_shards, run):
    urls = make_shards(10, 10, 12)
    first = run(urls, 2, 2)
    again = run(urls, 2, 2)
    assert _keys(again) == _keys(first)
    for a, b in zip(sum(first, []), sum(again, []), strict=True):
        assert [s['seed'] for s in a] == [s['seed'] for s in b]
        assert all(torch.equal(x['image'], y['image']) for x, y in zip(a, b, strict=True))
    assert _keys(run(urls, 2, 2, epoch=1)) != _keys(first)
    assert _keys(run(urls, 2, 2, seed=1)) != _keys(first)


def test_shards_are_permuted_by_seed_and_epoch():
    orders = [permuted_shards(20, seed, epoch) for seed in range(2) for epoch in range(2)]
    assert all(sorted(order) == list(range(20)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert permuted_shards(5, 0, 0) == [1, 4, 0, 2, 3]


def test_image_and_caption_follow_the_seed_not_the_layout(make_shards, run):
    urls = make_shards(10, 14)
    one = {s['key']: s for batch in run(urls, caption_key='json:captions')[0] for s in batch}
    two = {s['key']: s for batches in run(urls, 2, 3, caption_key='json:captions') for batch in batches for s in batch}
    later = {s['key']: s for batch in run(urls, epoch=1, caption_key='json:captions')[0] for s in batch}
    assert len(one) == 24
    assert all(torch.equal(one[key]['image'], two[key]['image']) for key in one)
    assert all(torch.equal(one[key]['tokens'], two[key]['tokens']) for key in one)
    assert not all(torch.equal(one[key]['tokens'], later[key]['tokens']) for key in one)


def test_samples_are_shuffled_across_a_shard(make_shards, run):
    keys = _flat(run(make_shards(40), shuffle_buffer=40))
    positions = [int(key[-5:]) for key in keys]
    assert sum(abs(position - i) for i, position in enumerate(positions)) / 40 > 8


@pytest.mark.parametrize('num_workers', [1, 2, 3])
@pytest.mark.parametrize('num_samples', [None, 33])
def test_resume_inside_an_epoch(make_shards, run, num_workers, num_samples):
    urls = make_shards(11, 11, 11)
    full = run(urls, num_workers=num_workers, num_samples=num_samples, caption_key='json:captions')
    for start in (1, 2, 5, 8):
        rest = run(
            urls, num_workers=num_workers, num_samples=num_samples, caption_key='json:captions', start_batch=start
        )
        assert _keys(rest)[0] == _keys(full)[0][start:]
        for a, b in zip(sum(rest[0], []), sum(full[0][start:], []), strict=True):
            assert a['seed'] == b['seed']
            assert torch.equal(a['image'], b['image'])


def test_resume_decodes_nothing_of_the_past(make_shards, run, monkeypatch):
    urls = make_shards(40)
    decoded = []
    decode = image_text_shards.decode_image
    monkeypatch.setattr(image_text_shards, 'decode_image', lambda *args: decoded.append(1) or decode(*args))
    run(urls, start_batch=8)
    assert len(decoded) == 2 * BATCH


def test_resume_is_exact_in_spite_of_bad_samples(tmp_path, tools, run):
    samples = {f'{i:03d}': tools.bad('html')[0] if i % 5 == 1 else tools.good(i) for i in range(40)}
    url = tools.write_tar(tmp_path / 'a.tar', samples)
    full = run(url, num_workers=2)
    assert any(sample['skipped'] for batch in full[0] for sample in batch)
    assert _keys(run(url, num_workers=2, start_batch=5))[0] == _keys(full)[0][5:]


KINDS = ['truncated', 'html', 'zero', 'cmyk', 'gray16', 'animated', 'bomb', 'no image', 'no caption', 'blank caption']


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('num_samples', [None, 24])
def test_bad_samples_are_replaced_and_reported(tmp_path, tools, run, kind, num_samples):
    files, cause = tools.bad(kind)
    samples = {f'{i:03d}': files if i in (0, 9, 23) else tools.good(i) for i in range(24)}
    url = tools.write_tar(tmp_path / 'a.tar', samples)
    (batches,) = run(url, num_samples=num_samples)
    delivered = [sample for batch in batches for sample in batch]
    assert len(delivered) == 24
    skipped = [record for sample in delivered for record in sample['skipped']]
    assert sorted(record['key'] for record in skipped) == ['a.tar/000', 'a.tar/009', 'a.tar/023']
    assert {record['cause'] for record in skipped} == {cause}
    assert {record['shard'] for record in skipped} == {'a.tar'}
    counts = Counter(sample['key'] for sample in delivered)
    assert len(counts) == 21
    assert len({sample['seed'] for sample in delivered}) == 24


def test_substitutes_are_spread(tmp_path, tools, run):
    samples = {f'{i:03d}': tools.bad('html')[0] if i < 10 else tools.good(i) for i in range(40)}
    keys = Counter(_flat(run(tools.write_tar(tmp_path / 'a.tar', samples), shuffle_buffer=40)))
    assert sum(keys.values()) == 40
    assert sum(count > 1 for count in keys.values()) > 5


def test_broken_json_and_png_and_webp(tmp_path, tools, run):
    samples = {f'{i}': tools.good(i) for i in range(6)}
    samples['1']['json'] = b'{"captions": '
    samples['2']['png'] = tools.encode(tools.photo(2), 'PNG')
    del samples['2']['jpg']
    samples['3']['webp'] = tools.encode(tools.photo(3), 'WEBP')
    del samples['3']['jpg']
    url = tools.write_tar(tmp_path / 'a.tar', samples)
    (batches,) = run(url, batch_size=6, caption_key='json:captions')
    (record,) = [record for sample in batches[0] for record in sample['skipped']]
    assert (record['cause'], record['key']) == ('broken_json', 'a.tar/1')
    assert {sample['key'] for sample in batches[0]} == {f'a.tar/{i}' for i in (0, 2, 3, 4, 5)}


@pytest.mark.parametrize('num_samples', [None, 16])
def test_broken_tail_is_reported_once(make_shards, run, num_samples):
    urls = make_shards(12, 12)
    broken = urls.replace('*', '00001')
    with open(broken, 'r+b') as file:
        # Far from the end, where tarfile pads with zeros.
        file.truncate(12000)
    ranks = run(urls, world_size=2, num_workers=2, batch_size=2, num_samples=num_samples)
    skipped = [record for batches in ranks for batch in batches for sample in batch for record in sample['skipped']]
    skipped = [record for record in skipped if record['cause'] not in NOTES]
    assert {(record['cause'], record['shard']) for record in skipped} == {('broken_tar', '00001.tar')}
    if num_samples is None:
        assert len(skipped) == 1
        assert len(set(_flat(ranks))) == len(_flat(ranks))


def test_damage_inside_of_a_local_shard_is_reported_without_an_index_too(make_shards, run):
    urls = make_shards(12)
    path = urls.replace('*', '00000')
    with open(path, 'r+b') as file:
        # The next header after the middle: tarfile would take it for the end.
        position = next(
            at for at in range(12288, 10**6, 512) if file.seek(at) >= 0 and file.read(512)[257:262] == b'ustar'
        )
        file.seek(position)
        file.write(b'x' * 512)
    (batches,) = run(urls, batch_size=4, num_samples=12)
    skipped = [record for batch in batches for sample in batch for record in sample['skipped']]
    skipped = [record for record in skipped if record['cause'] not in NOTES]
    assert {(record['cause'], record['shard']) for record in skipped} == {('broken_tar', '00000.tar')}


def test_a_shard_that_vanishes_keeps_the_order(make_shards, build, tools):
    urls = make_shards(8, 8)
    dataset = build(urls, shuffle_buffer=1)
    dataset.begin_epoch(0, 0, 4)
    full = [sample['key'] for sample in dataset]
    os.remove(urls.replace('*', '00000'))
    rest = list(dataset)
    assert len(rest) == 16
    assert Counter(record['cause'] for s in rest for record in s['skipped']) == {'unreadable_shard': 8}
    kept = [(a, sample['key']) for a, sample in zip(full, rest, strict=True) if a.startswith('00001')]
    assert all(a == b for a, b in kept)
    assert {sample['key'][:5] for sample in rest} == {'00001'}


def test_nothing_good_is_an_error_not_a_hang(tmp_path, tools, run):
    url = tools.write_tar(tmp_path / 'a.tar', {f'{i}': tools.bad('html')[0] for i in range(9)})
    for num_samples in (None, 9):
        with pytest.raises(RuntimeError, match=r"none of the \d samples in a.tar can be used: {'not_an_image': \d}"):
            run(url, num_samples=num_samples)


def test_streams_that_find_no_shard_raise(tmp_path, build, monkeypatch):
    monkeypatch.setattr(shard_reading, 'FIRST_WAIT', 0)
    dataset = build('pipe:cat {a,b}.tar', num_samples=100)
    assert list(dataset.shards) == ['pipe:cat a.tar', 'pipe:cat b.tar']
    dataset.begin_epoch(0, 0, 4)
    with pytest.raises(RuntimeError, match=r'no sample in .*a.tar: after 0 samples: \w+Error: .*Check the urls'):
        next(iter(dataset))


def test_a_bug_in_a_transform_is_raised(make_shards, build):
    def broken(image):
        raise ZeroDivisionError('a bug')

    dataset = build(make_shards(8), views={'image': [broken]})
    dataset.begin_epoch(0, 0, 4)
    with pytest.raises(ZeroDivisionError, match='a bug'):
        next(iter(dataset))


@pytest.mark.parametrize(('world_size', 'num_workers', 'distinct'), [(1, 1, 40), (2, 2, 36), (1, 5, 36), (4, 1, 32)])
def test_sequential_shards_with_num_samples(make_shards, run, world_size, num_workers, distinct):
    pattern = make_shards(20, 20)
    urls = [f'pipe:cat {pattern}'.replace('*', f'0000{i}') for i in range(2)]
    ranks = run(urls, world_size, num_workers, num_samples=40)
    assert len({len(batches) for batches in ranks}) == 1
    keys = _flat(ranks)
    # Quotas are in batches; streams with more batches than their share wrap around, the others leave some out.
    assert len(set(keys)) == distinct
    assert _keys(run(urls, world_size, num_workers, num_samples=40)) == _keys(ranks)


def test_sequential_streams_wrap_around(make_shards, run):
    (batches,) = run(make_shards(10), num_samples=24)
    counts = Counter(_flat([batches]))
    (again,) = [record for batch in batches for sample in batch for record in sample['skipped']]
    assert (again['cause'], again['samples']) == ('repeated_sample', 14)
    assert len(counts) == 10
    assert set(counts.values()) == {2, 3}
    assert len({sample['seed'] for batch in batches for sample in batch}) == 24


def test_few_shards_are_announced_once_by_rank_0(make_shards, run, build, monkeypatch):
    said = []
    monkeypatch.setattr(image_text_shards, 'print_log', lambda text, **kwargs: said.append(text))
    run(make_shards(32), world_size=2, num_workers=2)
    assert len(said) == 1
    assert said[0].startswith('1 shards for 4 streams')


def test_lengths(make_shards, run, build, monkeypatch):
    urls = make_shards(20, 17)
    assert len(build(urls)) == 37
    assert len(DataLoader(build(urls), batch_size=5, drop_last=True)) == 7
    monkeypatch.setattr(image_text_shards, 'get_dist_info', lambda: (1, 3))
    assert len(build(urls)) == 12
    assert len(build('pipe:nothing', num_samples=100)) == 33


def test_real_workers_over_two_epochs(make_shards, run, build):
    urls = make_shards(13, 13)
    dataset = build(urls)
    loader = DataLoader(
        dataset, BATCH, num_workers=2, persistent_workers=True, drop_last=True, collate_fn=collate_image_text
    )
    for epoch in range(2):
        dataset.begin_epoch(epoch, 0, BATCH)
        batches = [batch['key'] for batch in loader]
        assert len(batches) == len(loader)
        assert batches == _keys(run(urls, num_workers=2, epoch=epoch))[0]
    dataset.begin_epoch(1, 0, BATCH, start_batch=3)
    assert [batch['key'] for batch in loader] == batches[3:]


def test_without_workers(make_shards, run, build):
    urls = make_shards(13)
    dataset = build(urls)
    dataset.begin_epoch(0, 0, BATCH)
    loader = DataLoader(dataset, BATCH, drop_last=True, collate_fn=collate_image_text)
    assert [batch['key'] for batch in loader] == _keys(run(urls))[0]


def test_wrong_use_is_explained(make_shards, build, tools):
    urls = make_shards(8)
    with pytest.raises(RuntimeError, match='call dataset.begin_epoch'):
        iter(build(urls))
    with pytest.raises(ValueError, match='8 samples do not fill one batch of 9 on each of 1 ranks'):
        build(urls).begin_epoch(0, 0, 9)
    with pytest.raises(ValueError, match='start_batch=3, but an epoch has 2 batches'):
        build(urls).begin_epoch(0, 0, 4, start_batch=3)
    with pytest.raises(ValueError, match='give num_samples'):
        build('https://example.org/{000..003}.tar')
    with pytest.raises(FileNotFoundError, match='no shard matches'):
        build(urls.replace('*', 'x*'))
