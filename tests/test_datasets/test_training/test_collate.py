import os
import resource

import pytest
import torch
from mmpretrain.structures import DataSample
from torch.utils.data import DataLoader, Dataset

from mmmaskclip.datasets import collate_image_text
from mmmaskclip.datasets.training import collate_labelled
from mmmaskclip.registry import FUNCTIONS


def _tokens(*ids):
    return torch.tensor(ids, dtype=torch.int32)


def test_training_batch():
    samples = [
        {
            'image': torch.full((3, 4, 4), i, dtype=torch.uint8),
            'tokens': _tokens(*range(1, 3 + i)),
            'seed': 2**62 + i,
            'key': f's/{i}',
            'skipped': [{'cause': 'x'}] * i,
        }
        for i in range(3)
    ]
    batch = collate_image_text(samples)
    assert batch['image'].shape == (3, 3, 4, 4)
    assert batch['image'].dtype == torch.uint8
    assert batch['tokens'].tolist() == [[1, 2, 0, 0], [1, 2, 3, 0], [1, 2, 3, 4]]
    assert batch['tokens'].dtype == torch.int32
    assert batch['caption_ends'] == [1, 2, 3]
    assert batch['seed'].tolist() == [2**62, 2**62 + 1, 2**62 + 2]
    assert batch['key'] == ['s/0', 's/1', 's/2']
    assert batch['skipped'] == [{'cause': 'x'}] * 3


def test_evaluation_batch_with_lists_of_captions():
    samples = [
        {
            'image': torch.zeros(3, 2, 2),
            'tokens': [_tokens(1, 2), _tokens(1, 2, 3)],
            'label': 4,
            'mask': torch.ones(2, 2),
        },
        {'image': torch.zeros(3, 2, 2), 'tokens': [_tokens(5)], 'label': 6, 'mask': torch.ones(2, 2)},
    ]
    batch = collate_image_text(samples)
    assert batch['tokens'].tolist() == [[1, 2, 0], [1, 2, 3], [5, 0, 0]]
    assert batch['caption_ends'] == [1, 2, 0]
    assert batch['num_captions'].tolist() == [2, 1]
    assert batch['label'].tolist() == [4, 6]
    assert batch['mask'].shape == (2, 2, 2)


def test_images_of_different_sizes_are_named():
    samples = [{'image': torch.zeros(3, 2, i), 'key': f'shard/{i}'} for i in (2, 3)]
    with pytest.raises(ValueError, match=r"'image' has different shapes .*shard/2.*shard/3"):
        collate_image_text(samples)


def test_registered():
    assert FUNCTIONS.get('collate_image_text') is collate_image_text


class _Labelled(Dataset):
    """What mmpretrain's pipelines give."""

    def __len__(self):
        return 600

    def __getitem__(self, index):
        sample = DataSample(metainfo={'img_path': f'{index}.jpg'}).set_gt_label(index % 10)
        return {'inputs': torch.full((3, 2, 2), index % 256, dtype=torch.uint8), 'data_samples': sample}


def test_a_batch_of_many_labelled_images_needs_few_open_files():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir('/proc/self/fd'))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, limits[1]))
    try:
        loader = DataLoader(_Labelled(), 300, num_workers=1, collate_fn=collate_labelled)
        batches = list(loader)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [batch['inputs'].shape for batch in batches] == [(300, 3, 2, 2)] * 2
    assert batches[1]['inputs'][:, 0, 0, 0].tolist() == [i % 256 for i in range(300, 600)]
    samples = [sample for batch in batches for sample in batch['data_samples']]
    assert [int(sample.gt_label) for sample in samples] == [i % 10 for i in range(600)]
    assert samples[7].gt_label.shape == (1,)
    assert samples[7].img_path == '7.jpg'


def test_labelled_images_of_other_sizes_are_named():
    samples = [_Labelled()[0], _Labelled()[1]]
    samples[1]['inputs'] = torch.zeros(3, 4, 4)
    with pytest.raises(ValueError, match="'inputs' has different shapes in one batch"):
        collate_labelled(samples)
