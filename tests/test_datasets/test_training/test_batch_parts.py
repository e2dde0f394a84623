import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mmmaskclip.datasets import ImageTextShards, MixedSources, collate_image_text
from mmmaskclip.datasets.training.batch_parts import BatchesInParts, parts_of
from mmmaskclip.engine import ResumableSampler
from mmmaskclip.startup import workers

BATCH, PARTS = 4, 2


def _equal(left, right):
    """Bits, types, shapes and the order of keys."""
    assert list(left) == list(right)
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == right[name].dtype, name
            assert value.shape == right[name].shape, name
            assert torch.equal(value, right[name]), name
        else:
            assert value == right[name], name


class _Pairs(Dataset):
    """Every kind of value that a batch may have: captions of other lengths, labels, crops, bad samples."""

    metainfo = {}

    def __init__(self, captions=1, odd=None):
        self.captions, self.odd = captions, odd

    def __len__(self):
        return 30

    def __getitem__(self, index):
        tokens = [
            torch.arange(1, 2 + (index * 7 + i) % 5, dtype=torch.int32) for i in range(self.captions or index % 3)
        ]
        return {
            'image': torch.full((3, 4, 5 if index == self.odd else 4), index, dtype=torch.uint8),
            'crops': torch.full((2, 3, 2, 2), index, dtype=torch.uint8),
            'tokens': tokens[0] if self.captions == 1 else tokens,
            'seed': 2**62 + index,
            'label': index % 3 - 1,
            'key': f'pair/{index}',
            'skipped': [{'cause': 'x', 'key': str(index)}] * (index % 3),
            'source': 'one',
        }


def _loader(dataset, **kwargs):
    sampler = None if isinstance(dataset, IterableDataset) else ResumableSampler(dataset, seed=3)
    kwargs = dict(num_workers=2, drop_last=True, collate_fn=collate_image_text) | kwargs
    return DataLoader(dataset, BATCH, sampler=sampler, **kwargs)


@pytest.mark.parametrize('captions', [1, 2, 0])
def test_a_map_style_dataset_gives_the_same_bits(captions):
    loader = _loader(_Pairs(captions), persistent_workers=True)
    in_parts = BatchesInParts(loader, PARTS)
    for epoch, start in ((0, 0), (1, 3)):
        loader.sampler.begin_epoch(epoch, 5, BATCH, start)
        expected = list(loader)
        batches = list(in_parts)
        assert len(batches) == len(expected) == len(loader) - start
        for batch, whole in zip(batches, expected, strict=True):
            _equal(batch, whole)


def test_a_batch_of_shards_is_what_a_loader_of_small_batches_gives_put_together(make_shards, tools):
    dataset = ImageTextShards(make_shards(13, 13), tools.views, shuffle_buffer=5)
    in_parts = BatchesInParts(_loader(dataset, persistent_workers=True), PARTS)
    small = DataLoader(dataset, BATCH // PARTS, num_workers=2, drop_last=True, collate_fn=list)

    def read(loader, epoch, start):
        dataset.begin_epoch(epoch, 0, BATCH // PARTS, start * PARTS)
        return list(loader)

    first, batches, parts = read(in_parts, 0, 0), read(in_parts, 1, 0), read(small, 1, 0)
    assert len(first) == len(batches) == 6
    assert first[0]['key'] != batches[0]['key']
    for number, batch in enumerate(batches):
        _equal(batch, collate_image_text(parts[PARTS * number] + parts[PARTS * number + 1]))
    # A resumed run continues with the same batches.
    for batch, whole in zip(read(in_parts, 1, 4), batches[4:], strict=True):
        _equal(batch, whole)


def test_images_of_other_sizes_are_named_across_parts():
    loader = _loader(_Pairs(odd=2), num_workers=1)
    loader.sampler.begin_epoch(0, 0, BATCH)
    with pytest.raises(ValueError, match=r"'image' has different shapes .*\(3, 4, 5\)"):
        list(BatchesInParts(loader, BATCH))


def test_parts_are_for_workers_large_batches_and_our_collation(make_shards, tools, monkeypatch):
    def parts(size=1024, dataset=None, **kwargs):
        kwargs = dict(num_workers=2, collate_fn=collate_image_text) | kwargs
        return parts_of(DataLoader(dataset or _Pairs(), size, **kwargs))

    assert [parts(size) for size in (64, 128, 256, 1000, 1024, 1009)] == [1, 1, 2, 8, 8, 1]
    assert parts(num_workers=0) == 1
    assert parts(collate_fn=list) == 1
    shards = ImageTextShards(make_shards(8), tools.views)
    monkeypatch.setattr(workers, '_MOST_IN_A_PART', 2)
    monkeypatch.setattr(workers, '_FEWEST_IN_A_PART', 1)
    assert parts(4, shards) == 2
    assert parts(4, MixedSources({'a': dict(dataset=shards, per_batch=4)})) == 1
