"""Logits are float32 under autocast. Boxes: tests/test_downstream/test_mask_rcnn.py."""

import pytest
import torch
from mmengine.config import Config
from paths import CONFIGS

from mmmaskclip.models.heads.float32_classification import Float32LinearClsHead
from mmmaskclip.models.heads.float32_segmentation import Float32FCNHead, Float32UPerHead

SEGMENTATION = dict(channels=8, num_classes=2, dropout_ratio=0, norm_cfg=dict(type='BN'), align_corners=False)
HEADS = {
    'classification': lambda: Float32LinearClsHead(num_classes=2, in_channels=8),
    'uper': lambda: Float32UPerHead(in_channels=[8, 8], in_index=[0, 1], pool_scales=(1, 2), **SEGMENTATION),
    'fcn': lambda: Float32FCNHead(in_channels=8, in_index=1, num_convs=1, concat_input=False, **SEGMENTATION),
}


@pytest.mark.parametrize('name', HEADS)
def test_the_better_of_two_classes_wins_by_less_than_a_step_of_bfloat16(name):
    head = HEADS[name]().eval()
    last = head.fc if name == 'classification' else head.conv_seg
    torch.nn.init.zeros_(last.weight)
    last.bias.data.copy_(torch.tensor([8.0, 8.001]))
    shape = (3, 8) if name == 'classification' else (3, 8, 4, 4)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        logits = head(tuple(torch.randn(shape) for _ in range(2)))
    assert logits.dtype == torch.float32
    assert (logits.argmax(1) == 1).all()


def test_the_configs_have_these_heads():
    for path in ('finetune/vitb16_in1k.py', 'linear_probe/vitb16_in1k.py'):
        assert Config.fromfile(CONFIGS / path).model.head.type == 'mmmaskclip.Float32LinearClsHead'
    model = Config.fromfile(CONFIGS / 'upernet/vitb16_ade20k.py').model
    assert model.decode_head.type == 'mmmaskclip.Float32UPerHead'
    assert model.auxiliary_head.type == 'mmmaskclip.Float32FCNHead'
