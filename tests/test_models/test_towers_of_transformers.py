"""Files as transformers saves them: embeddings, logits and patches are those that transformers has computed."""

import inspect
import json

import numpy as np
import pytest
import timm
import torch
from exported import assert_traces_equal, pictures, write_tokenizer
from mmengine.config import Config
from paths import CONFIGS, ROOT
from read_out_references import REFERENCES, TimmReference, blocks_input
from recorded_towers import NAMES, SIZES, images, random_weights, word_ids
from safetensors.torch import save_file

from mmmaskclip.checkpoints.export.folder import export_folder
from mmmaskclip.checkpoints.export.graphs import export_graphs
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.checkpoints.text_facts import SIGLIP
from mmmaskclip.checkpoints.tips import tips_config
from mmmaskclip.checkpoints.translate import convert_weights
from mmmaskclip.checkpoints.trunks import KNOWN_TRUNKS, TrunkSettings, trunk_config
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS


@pytest.fixture(params=NAMES)
def recorded(request, tmp_path, monkeypatch):
    """What was recorded, and the model that is built from the file and the config beside it alone."""
    monkeypatch.setitem(KNOWN_TRUNKS, 'tiny_patch4_siglip', ('siglip', 16, 4, 4))
    content = json.loads((ROOT / f'tests/recorded/{request.param}.json').read_text())
    save_file(random_weights(content['shapes']), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps(content['config']))
    return content, from_pretrained(tmp_path).model


def settings_of(part):
    """Arguments that differ from the defaults; a tokenizer's place is the user's."""
    signature = inspect.signature(MODELS.get(part['type'])).parameters
    found = {key: value for key, value in dict(part).items() if key not in signature or signature[key].default != value}
    if 'tokenizer' in found:
        found['tokenizer'] = {**found['tokenizer'], 'file': None}
    return found


def _small_siglip(pretrained=False, **kwargs):
    """timm's SigLIP of the recorded size."""
    size = dict(img_size=16, patch_size=4, embed_dim=16, depth=4, num_heads=2, mlp_ratio=1.5)
    return timm.create_model('vit_base_patch16_siglip_224', pretrained, **{**size, **kwargs})


_small_siglip.__name__, _small_siglip.__module__ = 'tiny_patch4_siglip_16', __name__
timm.models.register_model(_small_siglip)


@torch.no_grad()
def test_equals_transformers(recorded):
    content, model = recorded
    ids = word_ids(model.text_encoder.context_length)
    texts = model.encode_text(ids)
    assert np.abs(texts.numpy().ravel() - content['text']).max() < 1e-5
    for size, outputs in content['outputs'].items():
        pixels = images(SIZES[size])
        embeds = model.encode_image(pixels)
        patches = model.image_encoder.dense(pixels)[0]
        logits = model.logits(embeds, texts)
        for ours, theirs in ((embeds, 'image'), (patches, 'patches'), (logits, 'logits')):
            assert np.abs(ours.numpy().ravel() - outputs[theirs]).max() < (1e-5 if theirs != 'logits' else 1e-4)
        assert torch.equal(model.image_encoder.features(pixels).patches, patches)


@pytest.mark.parametrize('recorded', [name for name in NAMES if 'tips' in name], indirect=True)
@torch.no_grad()
def test_padding_changes_no_caption(recorded):
    _, model = recorded
    ids = word_ids(64)
    whole = model.encode_text(ids)
    torch.testing.assert_close(model.encode_text(ids[:, :12]), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.encode_text(ids[1:2, :4]), whole[1:2], rtol=1e-4, atol=1e-5)
    assert model.encode_text(torch.zeros(1, 8, dtype=torch.long)).isfinite().all()


# The references have neither this SwiGLU nor SigLIP's approximate GELU.
@pytest.mark.parametrize('recorded', ['transformers_tipsv2'], indirect=True)
@torch.no_grad()
def test_read_outs_equal_the_formulas(recorded):
    _, model = recorded
    tower, pixels = model.image_encoder, images((16, 24))[:1]
    for name, reference in REFERENCES.items():
        found, grid = tower.dense(pixels, name)
        (x,) = blocks_input(tower, pixels)
        np.testing.assert_allclose(
            found[0].numpy(), reference(TimmReference(tower, grid), x, grid), atol=5e-5, rtol=1e-3, err_msg=name
        )


def test_shipped_configs_are_those_of_their_weights():
    """A config builds a model, of whose weights the same config is told again."""
    for name in ('tipsv2_vitb14', 'siglip2_vitb16_naflex'):
        shipped = Config.fromfile(CONFIGS / f'pretrained/{name}.py').model
        with torch.device('meta'):
            weights = MODELS.build(shipped).state_dict()
        if 'tips' in name:
            expected = tips_config(weights, 'model.safetensors', None)
            assert int(expected['image_encoder'].pop('mlp_ratio') * 768) == int(
                shipped['image_encoder'].pop('mlp_ratio') * 768
            )
        else:
            model, text = dict(act_layer='gelu_tanh'), dict(act_kwargs=dict(approximate='tanh'))
            settings = TrunkSettings(model=model, text=SIGLIP | text, position_interpolation='bilinear')
            settings.pixels = dict(interpolation='bilinear', resize_mode='patches')
            expected = trunk_config(weights, settings, 'model.safetensors')
        for part in ('data_preprocessor', 'image_encoder', 'image_projection', 'text_encoder', 'text_projection'):
            found, told = settings_of(shipped[part]), settings_of(expected[part])
            assert found == told, part


def test_a_tower_that_is_missing_is_named():
    for tower, message in (
        ('vision_encoder.cls_token', 'text_encoder.token_embedding'),
        ('text_encoder.transformer.resblocks.0.ln_1.weight', 'vision_encoder.cls_token'),
    ):
        with pytest.raises(ValueError, match=f'{message}.* is missing: both towers of TIPS are needed'):
            convert_weights({tower: torch.zeros(1, 1, 4)}, 'half.safetensors')


@torch.no_grad()
def test_exports_keep_what_it_computes_or_say_what_they_lose(recorded, tmp_path):
    _, model = recorded
    variable = model.data_preprocessor.resize_mode == 'patches'
    lost = dict(
        open_clip="resize_mode='patches'" if variable else 'pools the mean of its words',
        timm="resize_mode='patches'" if variable else 'positions bicubically, this tower bilinearly',
        transformers='CLIPModel of transformers cannot compute',
    )
    for to, message in lost.items():
        with pytest.raises(NotExpressible, match=message):
            export_folder(model, to, tmp_path / 'a')
    model.text_encoder.tokenizer = dict(file=write_tokenizer(tmp_path), pad_id=0)
    if variable:
        with pytest.raises(NotExpressible, match="takes those of one shape.*resize_mode='squash'"):
            export_graphs(model, 'torchscript', tmp_path / 'a')
        model.data_preprocessor.resize_mode = 'squash'
    assert_traces_equal(model, tmp_path / 'b', 'value')
    model.image_encoder.position_interpolation = 'bicubic'
    export_folder(model, 'timm', tmp_path / 'c')
    trunk = timm.create_model(f'local-dir:{tmp_path / "c"}', pretrained=True).eval()
    pixels = pictures(model)
    expected = model.image_projection(model.image_encoder.features(pixels))
    torch.testing.assert_close(trunk(pixels), expected, rtol=0, atol=1e-5)
