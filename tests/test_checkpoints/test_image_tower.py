import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmpretrain.models.utils import resize_pos_embed
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn

from mmmaskclip.checkpoints.image_tower import load_image_tower
from mmmaskclip.models.backbones import CLIPVisionTransformer

TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


def build(img_size=32, **kwargs):
    return CLIPVisionTransformer(TINY, patch_size=8, img_size=img_size, **kwargs)


@pytest.fixture(scope='module')
def source():
    torch.manual_seed(0)
    tower = build()
    tower._init_randomly()
    nn.init.normal_(tower.pos_embed)
    return tower


@pytest.fixture
def checkpoint(source, tmp_path):
    """As pretraining writes it: the tower under its prefix, beside other parts."""
    path = tmp_path / 'epoch_10.pth'
    state_dict = {f'image_encoder.{name}': value for name, value in source.state_dict().items()}
    torch.save({'meta': {}, 'state_dict': {**state_dict, 'text_encoder.pos_embed': torch.zeros(1, 17, 32)}}, path)
    return str(path)


@pytest.fixture
def log(monkeypatch):
    records = []
    monkeypatch.setattr(
        'mmmaskclip.checkpoints.image_tower.print_log',
        lambda message, logger, level: records.append((message, level)),
    )
    return records


def loaded(checkpoint, prefix='image_encoder.', img_size=32, grid=None, **kwargs):
    init_cfg = dict(type='Pretrained', checkpoint=checkpoint, prefix=prefix, **({'grid': grid} if grid else {}))
    tower = build(img_size, init_cfg=init_cfg, **kwargs)
    MMLogger.get_current_instance().setLevel(logging.WARNING)  # mmengine dumps every parameter's story
    tower.init_weights()
    return tower


@pytest.mark.parametrize('prefix', ['image_encoder.', 'image_encoder'])
def test_init_cfg_loads_the_tower_under_the_prefix(source, checkpoint, log, prefix):
    tower = loaded(checkpoint, prefix)
    for name, value in source.state_dict().items():
        assert torch.equal(tower.state_dict()[name], value), name
    ((message, level),) = log
    assert f'{len(source.state_dict())} of {len(source.state_dict())} tensors loaded from {checkpoint!r}' in message
    for word in ('Missing', 'Surplus', 'resized'):
        assert word not in message
    assert level == logging.INFO


def test_a_list_of_init_cfgs_keeps_the_loaded_positions(source, checkpoint):
    """mmpretrain draws positions anew after loading unless init_cfg is a dict."""
    tower = build(init_cfg=[dict(type='Pretrained', checkpoint=checkpoint, prefix='image_encoder.')])
    tower.init_weights()
    assert torch.equal(tower.pos_embed, source.pos_embed)


def test_a_file_of_the_tower_alone_needs_no_prefix(source, tmp_path):
    torch.save(source.state_dict(), tmp_path / 'tower.pth')
    assert torch.equal(loaded(str(tmp_path / 'tower.pth'), prefix=None).pos_embed, source.pos_embed)


def test_missing_and_surplus_names_are_in_the_log(checkpoint, log):
    tower = loaded(checkpoint, out_type='avg_featmap', final_norm=False, num_registers=2)
    ((message, level),) = log
    assert 'Missing, so as initialized: registers, ln2.weight, ln2.bias.' in message
    assert 'Surplus, so not used: ln1.weight, ln1.bias.' in message
    assert level == logging.WARNING
    assert tower.registers.std() > 0


@pytest.mark.parametrize('prefix', ['backbone.', None])
def test_nothing_loads_is_an_error_that_shows_names(checkpoint, prefix):
    with pytest.raises(ValueError, match='Nothing in') as error:
        loaded(checkpoint, prefix)
    for part in ('image_encoder.cls_token', 'where the tower has cls_token, pos_embed', "['image_encoder.', 'text_enc"):
        assert part in str(error.value)


def test_another_architecture_is_an_error_that_shows_shapes(checkpoint):
    wide = CLIPVisionTransformer({**TINY, 'feedforward_channels': 128}, patch_size=8, img_size=32)
    with pytest.raises(ValueError, match=r'layers.0.ffn.layers.0.0.weight is \(64, 32\), not \(128, 32\)'):
        load_image_tower(wide, checkpoint)


@pytest.mark.parametrize(
    'renamed',
    [
        lambda name: name.replace('layers.', 'blocks.'),  # timm and MAE: class token and positions have our names
        lambda name: None if name.startswith('layers.1.') else name,  # one block less
    ],
)
def test_a_part_of_a_tower_is_an_error(source, tmp_path, renamed):
    state_dict = {renamed(name): value for name, value in source.state_dict().items() if renamed(name)}
    torch.save(state_dict, tmp_path / 'other.pth')
    with pytest.raises(
        ValueError, match=r"other.pth' has only \d+ of the \d+ tensors .* layers\.\d.* would stay random"
    ):
        loaded(str(tmp_path / 'other.pth'), prefix=None)


@pytest.mark.parametrize('type', ['mmengine.Pretrained', 'PretrainedInit'])
def test_a_scope_does_not_lead_past_the_loading(source, checkpoint, type):
    tower = build(init_cfg=dict(type=type, checkpoint=checkpoint, prefix='image_encoder.'))
    tower.init_weights()
    assert torch.equal(tower.layers[0].attn.qkv.weight, source.layers[0].attn.qkv.weight)


@pytest.mark.parametrize('img_size', [48, (40, 72)])
def test_another_image_size_resizes_positions(source, checkpoint, log, img_size):
    tower = loaded(checkpoint, img_size=img_size)
    rows, columns = tower.patch_resolution
    assert torch.equal(tower.pos_embed, resize_pos_embed(source.pos_embed, (4, 4), (rows, columns), 'bicubic', 1))
    assert f'Positions resized from 4 x 4 to {rows} x {columns} patches.' in log[0][0]


def test_size_and_class_token_change_at_once(source, checkpoint):
    tower = loaded(checkpoint, img_size=48, with_cls_token=False, out_type='featmap')
    assert torch.equal(tower.pos_embed, resize_pos_embed(source.pos_embed, (4, 4), (6, 6), 'bicubic', 1)[:, 1:])


def test_a_file_without_class_token_leaves_the_towers(source, tmp_path):
    state_dict = {name: value for name, value in source.state_dict().items() if name != 'cls_token'}
    torch.save({**state_dict, 'pos_embed': source.pos_embed.detach()[:, 1:]}, tmp_path / 'tower.pth')
    tower = build()
    before = tower.pos_embed[:, :1].clone()
    report = load_image_tower(tower, tmp_path / 'tower.pth', prefix=None)
    assert report.missing == ('cls_token',)
    assert torch.equal(tower.pos_embed[:, :1], before)
    assert torch.equal(tower.pos_embed[:, 1:], source.pos_embed[:, 1:])


@pytest.fixture
def oblong(source, tmp_path):
    """A tower of 2 x 6 patches."""
    tower = build((16, 48))
    nn.init.normal_(tower.pos_embed)
    torch.save(tower.state_dict(), tmp_path / 'oblong.pth')
    return str(tmp_path / 'oblong.pth'), tower.pos_embed.detach()


def test_a_grid_that_is_no_square(oblong):
    path, positions = oblong
    assert torch.equal(loaded(path, None, (16, 48)).pos_embed, positions)
    with pytest.raises(ValueError, match=r'12 patch positions, which are no square: say which with init_cfg.grid'):
        loaded(path, None)
    with pytest.raises(ValueError, match=r'grid=\(3, 5\) is not of the 12 patch positions'):
        loaded(path, None, grid=(3, 5))
    for grid in ((2, 6), (3, 4)):
        tower = loaded(path, None, 32, grid=grid)
        assert torch.equal(tower.pos_embed, resize_pos_embed(positions, grid, (4, 4), 'bicubic', 1))


def test_a_number_of_patches_that_two_grids_fit_is_not_guessed_at(checkpoint):
    with pytest.raises(ValueError, match=r'may be of the grids \(2, 8\) or \(4, 4\): say which'):
        loaded(checkpoint, img_size=(16, 64))
    loaded(checkpoint, img_size=(16, 64), grid=(4, 4))


def test_load_state_dict_resizes_too(source):
    """What load_from, and mmengine's loading in general, ends in."""
    tower = build((40, 72))
    tower.load_state_dict(source.state_dict())
    assert torch.equal(tower.pos_embed, resize_pos_embed(source.pos_embed, (4, 4), (5, 9), 'bicubic', 1))


def test_missing_and_damaged_files(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match='no checkpoint'):
        loaded(str(tmp_path / 'no.pth'))
    with open(checkpoint, 'rb') as file:
        (tmp_path / 'cut.pth').write_bytes(file.read()[:5000])
    with pytest.raises(ValueError, match='is damaged'):
        loaded(str(tmp_path / 'cut.pth'))


def test_init_cfg_none_is_random_and_reads_nothing(log):
    tower = build(init_cfg=None)
    tower.init_weights()
    assert not log
    assert tower.pos_embed.std() > 0


@pytest.fixture
def open_clip_file(tmp_path):
    """A small model of open_clip and its file."""
    torch.manual_seed(0)
    image = CLIPVisionCfg(layers=2, width=32, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=32)
    model = CLIP(16, image, CLIPTextCfg(width=32, heads=2, layers=2)).eval().requires_grad_(False)
    torch.save(model.state_dict(), tmp_path / 'open_clip.pt')
    return model, str(tmp_path / 'open_clip.pt')


CLIP_LIKE = dict(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5), out_type='cls_token')


def test_open_clips_weights_in_our_tower(open_clip_file, log):
    theirs, path = open_clip_file
    tower = loaded(path, **CLIP_LIKE).eval()
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(tower(images)[-1] @ theirs.visual.proj, theirs.encode_image(images))
    assert 'Missing' not in log[0][0]
    assert loaded(path, img_size=(40, 72), **CLIP_LIKE).pos_embed.shape == (1, 1 + 45, 32)


def test_openais_weights_need_their_activation(open_clip_file, tmp_path):
    theirs, _ = open_clip_file
    torch.save({**theirs.state_dict(), 'input_resolution': torch.tensor(32)}, tmp_path / 'openai.pt')
    with pytest.raises(ValueError, match='is of a model with quick_gelu, but the config builds gelu'):
        loaded(str(tmp_path / 'openai.pt'), **CLIP_LIKE)
    loaded(str(tmp_path / 'openai.pt'), quick_gelu=True, **CLIP_LIKE)


def test_a_clip_without_a_vit_is_refused(tmp_path):
    torch.save({'visual.layer1.0.conv1.weight': torch.zeros(1)}, tmp_path / 'resnet.pt')
    with pytest.raises(ValueError, match="cannot be loaded: 'visual.layer1.0.conv1.weight' is no weight of a ViT"):
        loaded(str(tmp_path / 'resnet.pt'), **CLIP_LIKE)
