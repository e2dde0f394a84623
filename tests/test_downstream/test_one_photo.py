"""The toolboxes' own inferencers read one photo with the shipped configs."""

import mmpretrain
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.apis import inference_model, init_model
from paths import CONFIGS, ROOT
from PIL import Image

from mmmaskclip.engine.registration import register_all_modules


@pytest.fixture
def photo(tmp_path):
    register_all_modules()
    path = tmp_path / 'photo.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)).save(path)
    return str(path)


def config(name):
    cfg = Config.fromfile(CONFIGS / name)
    cfg.model.backbone.init_cfg = None
    return cfg


def test_segmentation(photo):
    model = init_model(config('upernet/vitt16_camvid.py'), device='cpu')
    assert inference_model(model, photo).pred_sem_seg.data.shape == (1, 60, 90)


def test_the_backbone_of_the_page_is_one_for_mmsegs_heads(photo):
    page = (ROOT / 'docs/downstream.md').read_text()
    block = page.partition('## From a checkpoint to a backbone')[2].partition('```python\n')[2].partition('```')[0]
    names = {}
    exec(block.replace('ViT-B/16', 'ViT-Ti/16').replace('img_size=512', 'img_size=32'), names)
    names['backbone'].pop('init_cfg')
    head = dict(type='FCNHead', in_channels=192, in_index=3, channels=8, num_convs=1, concat_input=False, num_classes=4)
    pixels = dict(type='SegDataPreProcessor', mean=[0, 0, 0], std=[1, 1, 1], size=(32, 48), seg_pad_val=255)
    model = dict(type='EncoderDecoder', data_preprocessor=pixels, backbone=names['backbone'], decode_head=head)
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackSegInputs')]
    cfg = dict(model=model | dict(test_cfg=dict(mode='whole')), test_pipeline=pipeline, default_scope='mmseg')
    segmentor = init_model(Config(cfg), device='cpu')
    assert inference_model(segmentor, photo).pred_sem_seg.data.shape == (1, 60, 90)


def test_classification(photo):
    inferencer = mmpretrain.ImageClassificationInferencer(
        config('linear_probe/vitt16_cifar10.py'), pretrained=False, device='cpu', classes=list('abcdefghij')
    )
    (result,) = inferencer(photo)
    assert result['pred_scores'].shape == (10,)
    assert result['pred_scores'].sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize('name', ['upernet/vitb16_ade20k.py', 'finetune/vitb16_in1k.py', 'linear_probe/vitb16_in1k.py'])
def test_steps_have_the_names_that_the_inferencers_look_for(name):
    steps = [step['type'] for step in Config.fromfile(CONFIGS / name).test_dataloader.dataset.pipeline]
    assert steps[0] == 'LoadImageFromFile'
    assert 'LoadAnnotations' in steps or not name.startswith('upernet')
