import json

import numpy as np
import pytest
import torch
from PIL import Image

from mmmaskclip.datasets import EvaluationShards, collate_image_text
from mmmaskclip.datasets.transforms.tokenize import tokenize

RESIZE = [{'type': 'torchvision/Resize', 'size': (8, 8)}]


@pytest.fixture
def shards(tmp_path, tools):
    """Two shards with labels and masks, three samples each."""
    paths = []
    for shard in range(2):
        samples = {}
        for i in range(3):
            number = 3 * shard + i
            mask = Image.fromarray(np.full((10, 12), number, np.uint8))
            samples[f'{number}'] = {
                **tools.good(number),
                'cls': b'%d\n' % number,
                'mask.png': tools.encode(mask, 'PNG'),
            }
        paths.append(tools.write_tar(tmp_path / f'{shard}.tar', samples))
    return paths


def test_every_field(shards):
    dataset = EvaluationShards(shards, RESIZE, 'json:captions', 'cls', 'mask.png', classes=list('abcdef'))
    assert len(dataset) == 6
    assert dataset.metainfo == {'classes': tuple('abcdef')}
    sample = dataset[4]
    assert sample['key'] == '1.tar/4'
    assert sample['image'].shape == (3, 8, 8)
    assert sample['label'] == 4
    assert torch.equal(sample['mask'], torch.full((10, 12), 4, dtype=torch.uint8))
    expected = tokenize([f'caption 4 number {i}' for i in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(sample['tokens'], expected, strict=True))
    batch = collate_image_text([dataset[i] for i in range(6)])
    assert batch['label'].tolist() == list(range(6))
    assert batch['num_captions'].tolist() == [3] * 6
    assert batch['mask'].shape == (6, 10, 12)


def test_only_what_is_asked_for(shards):
    assert set(EvaluationShards(shards[0], RESIZE)[0]) == {'image', 'key'}


def test_classes_from_a_file_and_labels_by_name(tmp_path, tools):
    (tmp_path / 'classes.json').write_text(json.dumps(['cat', 'dog']))
    url = tools.write_tar(
        tmp_path / 'a.tar', {'0': {**tools.good(0), 'cls': b'dog'}, '1': {**tools.good(1), 'cls': b'cow'}}
    )
    dataset = EvaluationShards(url, RESIZE, label_key='cls', classes=str(tmp_path / 'classes.json'))
    assert dataset[0]['label'] == 1
    with pytest.raises(ValueError, match=r"a.tar/1 cannot be evaluated: .*'cow' is neither a number below 2"):
        dataset[1]


def test_nothing_is_skipped(tmp_path, tools, shards):
    url = tools.write_tar(tmp_path / 'bad.tar', {'0': tools.good(0), '1': tools.bad('html')[0]})
    dataset = EvaluationShards(url, RESIZE)
    with pytest.raises(ValueError, match='bad.tar/1 cannot be evaluated: not_an_image'):
        dataset[1]
    with pytest.raises(ValueError, match="sample 0 has no 'cls'"):
        EvaluationShards(url, RESIZE, label_key='cls')
    with pytest.raises(ValueError, match='sample 0 has no gif'):
        EvaluationShards(url, RESIZE, image_keys=['gif'])
    with pytest.raises(ValueError, match=r'sample 0 has no gif, but .*; set caption_key'):
        EvaluationShards(shards, RESIZE, 'gif')
    with open(shards[0], 'r+b') as file:
        file.truncate(3000)
    with pytest.raises(ValueError, match='0.tar cannot be evaluated: broken_tar'):
        EvaluationShards(shards, RESIZE)
    with pytest.raises(ValueError, match='allows no random access'):
        EvaluationShards('pipe:cat x.tar', RESIZE)


def test_an_empty_caption_is_an_error_and_a_repeated_one_stays(tmp_path, tools):
    samples = {
        '0': {**tools.good(0), 'json': b'{"captions": ["a cat", "a cat"]}'},
        '1': {**tools.good(1), 'json': b'{"captions": ["a dog", " "]}'},
    }
    dataset = EvaluationShards(tools.write_tar(tmp_path / 'a.tar', samples), RESIZE, 'json:captions')
    assert len(dataset[0]['tokens']) == 2
    with pytest.raises(ValueError, match=r"a.tar/1 cannot be evaluated: empty_caption: caption 2 of 2 is ' '"):
        dataset[1]


def test_flickr8k_dev(data_root):
    crop = [{'type': 'torchvision/CenterCrop', 'size': 112}]
    dataset = EvaluationShards(str(data_root / 'flickr8k/dev-00000.tar'), crop, 'json:captions')
    batch = collate_image_text([dataset[i] for i in (0, 1, 999)])
    assert len(dataset) == 1000
    assert batch['image'].shape == (3, 3, 112, 112)
    assert batch['num_captions'].tolist() == [5, 5, 5]
