import logging

import pytest
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, resize_pos_embed
from torch import nn

from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.weights import load_weights, load_what_fits
from mmmaskclip.registry import MODELS


def test_positions_of_another_image_size_are_refused(tmp_path, tiny_model_cfg):
    cfg = tiny_model_cfg()
    torch.save(MODELS.build(cfg).state_dict(), tmp_path / 'a.pth')
    cfg['image_encoder']['img_size'] = 48
    message = r'image_encoder\.pos_embed has 17 positions, but img_size=\(48, 48\) needs 37'
    with pytest.raises(ValueError, match=message):
        load_weights(MODELS.build(cfg), tmp_path / 'a.pth')


def test_shapes_and_names_are_told_together(tmp_path):
    torch.save({'0.weight': torch.ones(3, 2), 'more': torch.ones(1)}, tmp_path / 'a.pth')
    message = (
        r'2 missing: 0\.bias, 1\.weight; 1 not in the model: more; 1 of another shape: '
        r'size mismatch for 0\.weight: \(3, 2\) in the file, \(3, 4\) in the model'
    )
    with pytest.raises(ValueError, match=message):
        load_weights(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1, bias=False)), tmp_path / 'a.pth')


def test_shapes_and_names_must_fit(tmp_path):
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / 'a.pth')
    load_weights(nn.Linear(2, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='does not fit Linear as configured.*size mismatch for weight'):
        load_weights(nn.Linear(4, 3), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'2 missing: 0\.weight, 0\.bias; 2 not in the model: weight, bias'):
        load_weights(nn.Sequential(nn.Linear(2, 3)), tmp_path / 'a.pth')


@pytest.fixture
def log(monkeypatch):
    records = []
    monkeypatch.setattr(
        'mmmaskclip.checkpoints.weights.print_log', lambda message, logger, level: records.append((message, level))
    )
    return records


@pytest.fixture
def open_clip_cfg(tiny_model_cfg):
    """The tiny pretrainer with towers of OpenCLIP's kind."""

    def build(**objectives):
        cfg = tiny_model_cfg({'contrast': dict(type='ImageTextContrast'), **objectives})
        cfg['image_encoder'].update(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5))
        cfg['image_projection']['pool'] = 'cls'
        return cfg

    return build


@pytest.fixture(scope='module')
def open_clip_model():
    torch.manual_seed(0)
    image = CLIPVisionCfg(layers=2, width=32, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=32)
    return CLIP(16, image, CLIPTextCfg(width=16, heads=2, layers=2, vocab_size=100)).requires_grad_(False)


def start(cfg, path):
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    model.init_weights()
    return model, load_what_fits(model, read_state_dict(path), path)


@pytest.mark.parametrize('prefix', ['', '_orig_mod.', 'module._orig_mod.', 'model.'])
def test_training_starts_from_a_file_of_another_clip(
    open_clip_cfg, open_clip_model, distillation_cfg, tmp_path, log, prefix
):
    """Once it began from random weights while the log said that the file was loaded."""
    path = tmp_path / 'model.pt'
    state = open_clip_model.state_dict()
    torch.save({f'{prefix}{name}': value for name, value in state.items()}, path)
    model, line = start(open_clip_cfg(distillation=distillation_cfg()), path)
    assert torch.equal(
        model.image_encoder.layers[1].attn.qkv.weight, state['visual.transformer.resblocks.1.attn.in_proj_weight']
    )
    # The teacher of the new objective is the loaded tower.
    for ours, theirs in zip(model.teacher.parameters(), model.image_encoder.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    count = sum(name != 'attn_mask' for name in state)
    assert line == (f"{count} of {count} tensors loaded from '{path}'; missing: objectives.distillation (new)")
    assert log == [(line, logging.INFO)]


def test_a_file_of_which_nothing_fits_is_refused(tiny_model_cfg, tmp_path):
    torch.save({'stem.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'Nothing in .*other\.pth.* the file has stem\.weight, where the model has'):
        start(tiny_model_cfg(), tmp_path / 'other.pth')


@pytest.mark.parametrize(
    ('left_out', 'message'),
    [
        ('text_encoder.', 'has nothing of text_encoder, which would stay random: it has image_encoder, image_proj'),
        ('image_encoder.layers.1.', r'has only a part of image_encoder: image_encoder\.layers\.1\.ln1\.weight'),
    ],
)
def test_a_tower_that_would_stay_random_is_refused(tiny_model_cfg, tmp_path, left_out, message):
    state = MODELS.build(tiny_model_cfg()).state_dict()
    torch.save({name: value for name, value in state.items() if not name.startswith(left_out)}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=message):
        start(tiny_model_cfg(), tmp_path / 'a.pth')


def test_another_shape_is_refused_in_a_tower_and_named_elsewhere(tiny_model_cfg, tmp_path, log):
    state = MODELS.build(tiny_model_cfg()).state_dict()
    wide = tiny_model_cfg()
    wide['image_encoder']['arch']['feedforward_channels'] = 128
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'image_encoder\.layers\.0\.ffn.* is \(64, 32\) in the file, \(128, 32\) in'):
        start(wide, tmp_path / 'a.pth')
    other = tiny_model_cfg()
    other['image_projection']['embed_dims'] = other['text_projection']['embed_dims'] = 8
    model, line = start(other, tmp_path / 'a.pth')
    assert (
        'of another shape, so new: image_projection.projection.weight is (16, 32) in the file, (8, 32) in the' in line
    )
    assert torch.equal(model.image_encoder.pos_embed, state['image_encoder.pos_embed'])
    assert log[0][1] == logging.WARNING


def test_what_the_model_lacks_is_named(tiny_model_cfg, distillation_cfg, tmp_path, log):
    torch.save(
        MODELS.build(
            tiny_model_cfg({'contrast': dict(type='ImageTextContrast'), 'distillation': distillation_cfg()})
        ).state_dict(),
        tmp_path / 'a.pth',
    )
    _, line = start(tiny_model_cfg(), tmp_path / 'a.pth')
    assert line.endswith("a.pth'; not used: objectives.distillation, teacher")


@pytest.mark.parametrize('size', [16, 48])
def test_positions_are_resized_as_open_clip_does(open_clip_cfg, open_clip_model, tmp_path, log, size):
    torch.save(open_clip_model.state_dict(), tmp_path / 'a.pt')
    cfg = open_clip_cfg()
    cfg['image_encoder']['img_size'] = size
    model, _ = start(cfg, tmp_path / 'a.pt')
    image = CLIPVisionCfg(layers=2, width=32, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=size)
    theirs = CLIP(16, image, CLIPTextCfg(width=16, heads=2, layers=2, vocab_size=100))
    state = open_clip_model.state_dict()
    resize_pos_embed(state, theirs)
    torch.testing.assert_close(model.image_encoder.pos_embed[0], state['visual.positional_embedding'])
    # By init_cfg of the tower alone, too.
    alone = MODELS.build(
        {
            **cfg['image_encoder'],
            'init_cfg': dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pt'), prefix='image_encoder.'),
        }
    )
    alone.init_weights()
    assert torch.equal(alone.pos_embed, model.image_encoder.pos_embed)


def test_a_part_of_a_model_is_loaded_strictly(tiny_model_cfg, tmp_path):
    whole = MODELS.build(tiny_model_cfg())
    torch.save(whole.state_dict(), tmp_path / 'a.pth')
    text = nn.ModuleDict({'text_encoder': MODELS.build(tiny_model_cfg()['text_encoder'])})
    load_weights(text, tmp_path / 'a.pth', parts=('text_encoder.',))
    assert torch.equal(text['text_encoder'].pos_embed, whole.text_encoder.pos_embed)
    with pytest.raises(ValueError, match='missing: text_encoder'):
        load_weights(text, tmp_path / 'a.pth', parts=('image_encoder.',))
