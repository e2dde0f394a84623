"""The rule is in the tables here, written from the BEiT paper's formula and not from the constructor."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as MMPRETRAIN_MODELS
from mmseg.registry import MODELS as MMSEG_MODELS
from torch import nn

from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.registry import MODELS

LR, DECAY, RATE = 1e-3, 0.05, 0.6
TOWER = dict(type='mmmaskclip.CLIPVisionTransformer', arch='ViT-B/16', img_size=224, out_type='featmap')
STEM = ('cls_token', 'pos_embed', 'patch_embed.', 'registers', 'pre_norm.')
TOKENS = ('cls_token', 'pos_embed', 'registers')


@pytest.fixture(autouse=True)
def registered():
    register_all_modules(init_default_scope=False)


def optimizer_of(model, scope='mmpretrain', **paramwise_cfg):
    config = dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
        constructor='mmmaskclip.LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=RATE, **paramwise_cfg),
    )
    with DefaultScope.overwrite_default_scope(scope):
        return build_optim_wrapper(model, ConfigDict(config))


def settings(model, **kwargs):
    """Learning rate and weight decay of every parameter by its name."""
    names = {param: name for name, param in model.named_parameters()}
    wrapper = optimizer_of(model, **kwargs)
    found = {
        names[param]: (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }
    listed = [name for group in wrapper.optimizer.param_groups for name in group['parameters']]
    assert sorted(listed) == sorted(found)
    return found


def table(model, num_blocks=12, blocks='layers', inner='backbone.'):
    """The same, from the rule: stem 0, block i at i + 1, the rest at the full rate; no decay but for matrices."""
    norms = {
        f'{name}.{part}'
        for name, module in model.named_modules()
        if 'Norm' in type(module).__name__ or type(module).__name__ in ('LN2d', 'GRN')
        for part in ('weight', 'bias')
    }
    expected = {}
    for name, param in model.named_parameters():
        exponent, inside = 0, name[len(inner) :] if name.startswith(inner) else ''
        if inside.startswith(STEM):
            exponent = num_blocks + 1
        elif inside.startswith(f'{blocks}.'):
            exponent = num_blocks - int(inside.split('.')[1])
        free = param.ndim <= 1 or name in norms or inside in TOKENS
        expected[name] = (LR * RATE**exponent, 0.0 if free else DECAY)
    return expected


def check(found, expected):
    assert found.keys() == expected.keys()
    for name, (lr, decay) in expected.items():
        assert found[name] == (pytest.approx(lr, rel=1e-9), decay), name


@pytest.fixture(scope='module')
def classifier():
    register_all_modules(init_default_scope=False)
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmpretrain'):
        return MMPRETRAIN_MODELS.build(
            dict(
                type='ImageClassifier',
                backbone={**TOWER, 'num_registers': 4, 'pre_norm': True},
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=10, in_channels=768),
            )
        )


@pytest.fixture(scope='module')
def segmentor():
    register_all_modules(init_default_scope=False)
    head = dict(channels=32, num_classes=5, norm_cfg=dict(type='BN'), align_corners=False, dropout_ratio=0.1)
    with torch.device('meta'), DefaultScope.overwrite_default_scope('mmseg'):
        return MMSEG_MODELS.build(
            dict(
                type='EncoderDecoder',
                backbone={**TOWER, 'out_indices': [3, 5, 7, 11], 'final_norm': False},
                neck=dict(type='Feature2Pyramid', embed_dim=768, rescales=[4, 2, 1, 0.5], norm_cfg=dict(type='BN')),
                decode_head=dict(type='UPerHead', in_channels=[768] * 4, in_index=[0, 1, 2, 3], **head),
                auxiliary_head=dict(type='FCNHead', in_channels=768, in_index=2, **head),
            )
        )


@pytest.fixture(scope='module')
def detector():
    pytest.importorskip('mmdet')
    from mmdet.registry import MODELS as MMDET_MODELS

    register_all_modules(init_default_scope=False)
    extractor = dict(
        type='SingleRoIExtractor', out_channels=32, featmap_strides=[4, 8, 16, 32], roi_layer=dict(type='RoIAlign')
    )
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'):
        return MMDET_MODELS.build(
            ConfigDict(
                type='MaskRCNN',
                backbone={**TOWER, 'out_indices': [3, 5, 7, 11]},
                neck=dict(type='mmdet.FPN', in_channels=[768] * 4, out_channels=32, num_outs=5),
                rpn_head=dict(
                    type='RPNHead',
                    in_channels=32,
                    feat_channels=32,
                    anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]),
                    bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                ),
                roi_head=dict(
                    type='StandardRoIHead',
                    bbox_roi_extractor={**extractor, 'roi_layer': dict(type='RoIAlign', output_size=7)},
                    bbox_head=dict(
                        type='Shared2FCBBoxHead',
                        in_channels=32,
                        fc_out_channels=16,
                        num_classes=4,
                        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
                        reg_class_agnostic=False,
                    ),
                ),
                train_cfg=dict(rpn=None, rcnn=None),
                test_cfg=dict(rpn=None, rcnn=None),
            )
        )


@pytest.mark.parametrize(
    ('kind', 'scope'), [('classifier', 'mmpretrain'), ('segmentor', 'mmseg'), ('detector', 'mmdet')]
)
def test_every_parameter_of_vit_b_in_three_toolboxes(request, kind, scope):
    model = request.getfixturevalue(kind)
    found = settings(model, scope=scope)
    check(found, table(model))
    assert found['backbone.pos_embed'] == (pytest.approx(1e-3 * 0.6**13), 0)
    assert found['backbone.patch_embed.projection.weight'] == (pytest.approx(1e-3 * 0.6**13), 0.05)
    assert found['backbone.layers.0.attn.qkv.weight'] == (pytest.approx(1e-3 * 0.6**12), 0.05)
    assert found['backbone.layers.11.attn.qkv.weight'] == (pytest.approx(6e-4), 0.05)
    assert found['backbone.layers.11.ln1.weight'] == (pytest.approx(6e-4), 0)


def test_equal_settings_are_one_group(classifier):
    wrapper = optimizer_of(classifier)
    # Depths 0 to 13, with and without weight decay.
    assert len(wrapper.optimizer.param_groups) == 2 * 14
    assert wrapper.get_lr()['base_lr'] == [LR]


def test_frozen_parameters_are_left_out(segmentor):
    segmentor.backbone.requires_grad_(False)
    try:
        assert all(not name.startswith('backbone.') for name in settings(segmentor, scope='mmseg'))
    finally:
        segmentor.backbone.requires_grad_(True)


class Model(nn.Module):
    def __init__(self, backbone, **parts):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(4, 2)
        for name, part in parts.items():
            setattr(self, name, part)


def test_other_towers_for_comparison():
    with torch.device('meta'):
        theirs = MMPRETRAIN_MODELS.build(dict(type='mmpretrain.VisionTransformer', arch='deit-t', pre_norm=True))
        openai = CLIPVisionTransformer('ViT-B/16', pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5), quick_gelu=True)
    for backbone in (theirs, openai):
        check(settings(Model(backbone)), table(Model(backbone)))


@pytest.mark.parametrize(
    ('features_only', 'inner'), [(True, 'backbone.timm_model.model.'), (False, 'backbone.timm_model.')]
)
def test_towers_of_timm(features_only, inner):
    pytest.importorskip('timm')
    more = dict(out_indices=[3, 5, 7, 11]) if features_only else {}
    with torch.device('meta'):
        backbone = MMPRETRAIN_MODELS.build(
            dict(type='mmpretrain.TIMMBackbone', model_name='vit_tiny_patch16_224', features_only=features_only, **more)
        )
    model = Model(backbone)
    check(settings(model), table(model, blocks='blocks', inner=inner))


def test_a_tower_of_mmseg():
    backbone = MMSEG_MODELS.build(
        dict(type='mmseg.VisionTransformer', embed_dims=32, num_heads=2, num_layers=4, out_indices=3)
    )
    model = Model(backbone)
    check(settings(model), table(model, num_blocks=4))


class Stages(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({'blocks': nn.ModuleList([nn.Linear(2, 2)])}) for _ in range(2))


@pytest.mark.parametrize('backbone', [nn.Sequential(nn.Linear(2, 2)), Stages()])
def test_a_backbone_without_depths_is_named(backbone):
    with pytest.raises(ValueError, match=f'cannot find the layers of {type(backbone).__name__}'):
        optimizer_of(Model(backbone))


def test_custom_keys_and_scalars():
    with torch.device('meta'):
        backbone = CLIPVisionTransformer('ViT-Ti/16')
        model = Model(backbone, temperature=nn.Parameter(torch.ones(())))
    found = settings(model, custom_keys={'head': dict(lr_mult=10.0), 'pos_embed': dict(decay_mult=1.0)})
    assert found['head.weight'] == (pytest.approx(1e-2), DECAY)
    assert found['temperature'] == (LR, 0)
    assert found['backbone.pos_embed'][1] == 0
    # A key for the whole backbone reaches its tokens too.
    slow = settings(model, custom_keys={'backbone': dict(lr_mult=0.1)})
    for name in ('backbone.pos_embed', 'backbone.cls_token'):
        assert slow[name] == (pytest.approx(0.1 * found[name][0]), 0)


def test_wrong_settings_are_named():
    with torch.device('meta'):
        model = Model(CLIPVisionTransformer('ViT-Ti/16'))
    with pytest.raises(ValueError, match=r"paramwise_cfg has \['layer_decay'\]"):
        optimizer_of(model, layer_decay=0.7)
    with pytest.raises(ValueError, match='Linear has no backbone or image_encoder or text_encoder'):
        optimizer_of(nn.Linear(2, 2))
    with pytest.raises(ValueError, match='nothing to train'):
        optimizer_of(model.requires_grad_(False))


def test_both_towers_of_an_image_text_model_decay(tiny_model_cfg):
    model = MODELS.build(tiny_model_cfg())
    blocks = {tower: len(getattr(model, tower).layers) for tower in ('image_encoder', 'text_encoder')}
    stems = ('cls_token', 'pos_embed', 'patch_embed', 'registers', 'token_embedding')
    for name, (lr, decay) in settings(model, scope='mmmaskclip').items():
        tower, _, inside = name.partition('.')
        if tower not in blocks:
            depth, depths = 1, 1  # projections and the temperature: the full rate
        elif inside.startswith(stems):
            depth, depths = 0, blocks[tower] + 1
        elif inside.startswith('layers.'):
            depth, depths = int(inside.split('.')[1]) + 1, blocks[tower] + 1
        else:
            depth = depths = blocks[tower] + 1
        assert lr == pytest.approx(LR * RATE ** (depths - depth)), name
        tokens = inside.split('.')[-1] in ('cls_token', 'pos_embed', 'registers')
        assert decay == (DECAY if model.get_parameter(name).ndim > 1 and not tokens else 0), name


def test_a_locked_tower_is_left_out(tiny_model_cfg):
    cfg = tiny_model_cfg()
    cfg['text_encoder']['frozen'] = True
    found = settings(MODELS.build(cfg), scope='mmmaskclip')
    assert not [name for name in found if name.startswith('text_encoder.')]
    assert [name for name in found if name.startswith('text_projection.')]
