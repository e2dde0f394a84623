"""mmseg's datasets as samples of ours: files found, mask values, sizes, wrong counts."""

import numpy as np
import pytest
import torch
from PIL import Image

from mmmaskclip.registry import DATASETS

RESIZE = [dict(type='torchvision/Resize', size=(16, 24))]


@pytest.fixture
def folder(tmp_path):
    for name in ('images', 'masks'):
        (tmp_path / name).mkdir()
    for index in range(3):
        Image.new('RGB', (12, 8), (80 * index, 0, 0)).save(tmp_path / f'images/{index}.jpg')
        mask = np.full((8, 12), index, dtype=np.uint8)
        mask[:, 6:] = index + 1
        Image.fromarray(mask).save(tmp_path / f'masks/{index}.png')
    return tmp_path


def build(folder, transforms=RESIZE, **changes):
    source = dict(
        type='mmseg.BaseSegDataset',
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=('a', 'b', 'c', 'd')),
    )
    return DATASETS.build(
        dict(
            type='SegmentationImages', source={**source, **changes.pop('source', {})}, transforms=transforms, **changes
        )
    )


def test_image_is_transformed_and_mask_is_not(folder):
    dataset = build(folder, num_samples=3)
    assert dataset.metainfo['classes'] == ('a', 'b', 'c', 'd')
    sample = dataset[2]
    assert sample['image'].shape == (3, 16, 24)
    assert sample['image'][0].float().mean() == pytest.approx(160, abs=2)  # RGB, not OpenCV's order.
    assert sample['image'][2].max() < 10
    assert sample['mask'].dtype == torch.uint8
    assert sample['mask'].tolist() == [[2] * 6 + [3] * 6] * 8
    assert sample['key'].endswith('images/2.jpg')


def test_zero_label_is_mmsegs_affair(folder):
    sample = build(folder, source=dict(reduce_zero_label=True))[0]
    assert sample['mask'].unique().tolist() == [0, 255]


def test_wrong_counts_and_broken_images_are_errors(folder):
    with pytest.raises(ValueError, match='has 3 images, the protocol 367'):
        build(folder, num_samples=367)
    with pytest.raises(ValueError, match=r'images has no \.tif'):
        build(folder, source=dict(img_suffix='.tif'))
    (folder / 'images/1.jpg').write_bytes(b'not a jpeg')
    with pytest.raises(ValueError, match=r'images/1\.jpg cannot be evaluated'):
        build(folder)[1]


def test_camvid(data_root):
    root = data_root / 'camvid'
    prefix = dict(img_path='images/val', seg_map_path='masks/val')
    dataset = build(root, source=dict(data_prefix=prefix, metainfo=None), num_samples=101)
    sample = dataset[50]
    assert sample['image'].shape == (3, 16, 24)
    assert sample['mask'].shape == (360, 480)
    assert set(sample['mask'].unique().tolist()) <= set(range(12))
