"""Exports of towers that are not ours: each target computes what the model computes, or says what would be lost."""

import json

import open_clip
import pytest
import timm
import tiny_models
import torch
from exported import assert_traces_equal, captions, pictures, released
from tiny_timm import MODELS

from mmmaskclip.checkpoints.export.folder import export_folder
from mmmaskclip.checkpoints.export.graphs import export_graphs
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS as REGISTRY

CLOSE = dict(rtol=0, atol=1e-5)
# One of each kind of block and pool.
TRACED = ('tiny_patch8_siglip_32', 'tiny_patch8_eva02_post_32', 'tiny_patch8_pe_core_32', 'tiny_mci_64')


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_a_tower_of_timm_goes_back_to_where_it_came_from(tmp_path, name):
    theirs, model = released(tmp_path / 'source', name)
    for parameter in model.parameters():  # tuned since
        parameter.add_(0.01 * torch.randn_like(parameter))
    pixels, ids = pictures(model), captions(model)
    expected = model.encode_image(pixels), model.encode_text(ids)

    export_folder(model, 'open_clip', tmp_path / 'a')
    back = open_clip.create_model(f'local-dir:{tmp_path / "a"}').eval()
    torch.testing.assert_close(back.encode_image(pixels, normalize=True), expected[0], **CLOSE)
    torch.testing.assert_close(back.encode_text(ids, normalize=True), expected[1], **CLOSE)
    torch.testing.assert_close(back.get_logits(pixels, ids)[0], model.logits(*expected), rtol=0, atol=1e-4)
    ours = from_pretrained(tmp_path / 'a').model
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in ours.state_dict().items())
    assert (tmp_path / 'a/tokenizer.json').is_file() == (model.text_encoder.tokenizer is not None)

    export_folder(model, 'timm', tmp_path / 'b')
    trunk = timm.create_model(f'local-dir:{tmp_path / "b"}', pretrained=True).eval()
    features = model.image_encoder.features(pixels)
    if trunk.attn_pool is None:
        torch.testing.assert_close(trunk(pixels), features.cls, **CLOSE)
    else:
        pooled = model.image_projection.projection(trunk(pixels))
        torch.testing.assert_close(pooled, model.image_projection(features), **CLOSE)
    with pytest.raises(NotExpressible, match=rf"timm's {name}, which CLIPModel .*--to open_clip and --to timm"):
        export_folder(model, 'transformers', tmp_path / 'c')
    if name in TRACED:
        assert_traces_equal(model, tmp_path / 'd', 'naclip')
        if model.text_encoder.tokenizer:
            options = json.loads((tmp_path / 'd/tokenizer.options.json').read_text())
            assert (tmp_path / 'd' / options['file']).is_file()
            assert options['clean'] == 'canonicalize'


def test_registers_of_its_own_are_refused(tmp_path):
    config = dict(type='TimmTower', model_name='tiny_mci_64', num_registers=2)
    projection = dict(type='ImageProjectionHead', in_channels=32, embed_dims=16, pool='cls')
    model = REGISTRY.build(tiny_models.model() | dict(image_encoder=config, image_projection=projection))
    for to in ('open_clip', 'timm'):
        with pytest.raises(NotExpressible, match='without the 2 registers of this tower.*num_registers=0.*--to onnx'):
            export_folder(model, to, tmp_path / 'a')


def test_a_bare_model_of_sentence_piece_is_no_tokenizer_of_open_clips(tmp_path):
    _, model = released(tmp_path / 'source', 'tiny_patch8_siglip_32')
    (tmp_path / 'spiece.model').touch()
    model.text_encoder.tokenizer['file'] = str(tmp_path / 'spiece.model')
    with pytest.raises(NotExpressible, match='bare model of SentencePiece.*set text_encoder.tokenizer.file to that'):
        export_folder(model, 'open_clip', tmp_path / 'a')


@torch.no_grad()
def test_settings_that_a_name_does_not_say(tmp_path):
    _, model = released(tmp_path / 'source', 'tiny_patch8_siglip_32')
    config = dict(model_name='tiny_patch8_siglip_32', img_size=48, act_layer='gelu_tanh')
    model.image_encoder = REGISTRY.build(dict(type='TimmTower', **config))
    with pytest.raises(NotExpressible, match=r"this tower has act_layer='gelu_tanh', img_size=\(48, 48\).*--to timm"):
        export_folder(model, 'open_clip', tmp_path / 'a')
    model.image_projection.mlp[1] = torch.nn.GELU('tanh')
    export_folder(model.eval(), 'timm', tmp_path / 'b')
    trunk = timm.create_model(f'local-dir:{tmp_path / "b"}', pretrained=True).eval()
    pixels = torch.randn(2, 3, 48, 48)
    expected = model.image_projection(model.image_encoder.features(pixels))
    torch.testing.assert_close(trunk(pixels), expected, **CLOSE)


def test_a_tokenizer_that_is_not_there(tmp_path):
    _, model = released(tmp_path / 'source', 'tiny_patch8_siglip_32')
    model.text_encoder.tokenizer['file'] = 'nowhere/tokenizer.json'
    for export, to in ((export_folder, 'open_clip'), (export_graphs, 'torchscript')):
        with pytest.raises(NotExpressible, match=r"no tokenizer 'nowhere/tokenizer.json'.*text_encoder.tokenizer.file"):
            export(model, to, tmp_path / 'c')
    assert not (tmp_path / 'c').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_heads=4), 'differ in heads 4 for 2'),
        (dict(eps=1e-5), 'differ in eps 1e-05 for 1e-06'),
        (dict(activation='gelu_tanh'), r"differ in the activation GELU\(approximate='tanh'\)"),
        (dict(with_cls=True), 'differ in the class token True for False'),
        (dict(mlp_ratio=2.0), r'differ in attn_pool\.mlp'),
    ],
)
def test_a_pool_that_timm_does_not_build(tmp_path, change, message):
    settings = dict(in_channels=32, embed_dims=None, num_heads=2, activation='gelu') | change
    config = tiny_models.model() | dict(
        image_encoder=dict(type='TimmTower', model_name='tiny_patch8_siglip_32'),
        image_projection=dict(type='AttentionPoolProjectionHead', **settings),
    )
    model = REGISTRY.build(config)
    for to in ('open_clip', 'timm'):
        with pytest.raises(NotExpressible, match=message):
            export_folder(model, to, tmp_path / 'a')


def test_the_mean_of_patches_is_not_what_timm_averages(tmp_path):
    config = tiny_models.model() | dict(image_encoder=dict(type='TimmTower', model_name='tiny_mci_64'))
    for to in ('open_clip', 'timm'):
        with pytest.raises(NotExpressible, match=r"norms after the mean .*pool='cls'.*--to onnx"):
            export_folder(REGISTRY.build(config), to, tmp_path / 'a')
