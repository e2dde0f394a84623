import pytest
import torch
from mmengine.config import Config
from paths import CONFIGS

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.engine.registration import register_all_modules


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules()


def test_pairs():
    batch = random_batch(Config.fromfile(CONFIGS / 'clip/vitt16_flickr8k.py'), 3, caption_length=9)
    assert batch.pop('caption_ends') == [8] * 3
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        'image': (3, 3, 112, 112),
        'tokens': (3, 9),
        'seed': (3,),
    }
    assert (batch['image'].dtype, batch['tokens'].dtype, batch['seed'].dtype) == (torch.uint8, torch.int32, torch.int64)
    assert batch['tokens'][:, 0].tolist() == [49406] * 3
    assert batch['tokens'].argmax(1).tolist() == [8] * 3


def test_every_view_of_the_config_and_crops_of_an_image():
    views = dict(
        image=[dict(type='torchvision/RandomResizedCrop', size=48)],
        local=[lambda image: [image.resize((24, 16))] * 8],
    )
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ImageTextShards'))))
    cfg._cfg_dict.train_dataloader.dataset.views = views
    batch = random_batch(cfg, 2, 5)
    assert batch['image'].shape == (2, 3, 48, 48)
    assert batch['local'].shape == (2, 8, 3, 16, 24)


def test_mixed_sources_have_labels_and_pairs():
    batch = random_batch(Config.fromfile(CONFIGS / 'unicl/vitb16_icinw_cvpr.py'), 4, 5)
    assert batch['label'].tolist() == [0, -1, 0, -1]
    assert batch['image'].shape == (4, 3, 224, 224)


def test_other_datasets_are_refused():
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='ImageNet'))))
    with pytest.raises(ValueError, match='a ImageNet, has no views'):
        random_batch(cfg, 2, 5)


def test_a_model_without_training_data_has_one_view_of_its_size():
    batch = random_batch(Config.fromfile(CONFIGS / 'pretrained/openai_vitl14_336.py'), 2, 9)
    assert batch['image'].shape == (2, 3, 336, 336)
