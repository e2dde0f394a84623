"""CLIPs whose image tower is timm's, from files alone: embeddings, logits and patches equal OpenCLIP's."""

import inspect
import json
import re

import numpy as np
import open_clip
import paths
import pytest
import timm
import torch
from mmengine.config import Config
from read_out_references import REFERENCES, TimmReference, blocks_input
from safetensors.torch import save_file
from tiny_timm import MODELS, model_cfg, open_clip_model

from mmmaskclip.checkpoints.sources import Source
from mmmaskclip.checkpoints.towers import tower_config
from mmmaskclip.checkpoints.translate import convert_weights
from mmmaskclip.checkpoints.trunks import KNOWN_TRUNKS
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS as REGISTRY

PIXELS = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5], interpolation='bicubic', resize_mode='squash')


def save_folder(folder, name):
    model = open_clip_model(name)
    save_file(model.state_dict(), folder / 'open_clip_model.safetensors')
    config = dict(model_cfg=model_cfg(name), preprocess_cfg=PIXELS)
    (folder / 'open_clip_config.json').write_text(json.dumps(config))
    return model


def word_ids(config):
    length, vocabulary = config['context_length'], config['vocab_size']
    ids = torch.randint(1, vocabulary - 1, (3, length), generator=torch.Generator().manual_seed(0))
    ids[:, length // 2] = vocabulary - 1  # the end
    return ids


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_equals_open_clip(tmp_path, name):
    theirs, ours = save_folder(tmp_path, name), from_pretrained(tmp_path).model
    side = ours.image_encoder.img_size[0]
    images, ids = torch.randn(2, 3, side, side), word_ids(model_cfg(name)['text_cfg'])
    images_, texts_ = theirs.encode_image(images, normalize=True), theirs.encode_text(ids, normalize=True)
    close = dict(rtol=0, atol=1e-5)
    torch.testing.assert_close(ours.encode_image(images), images_, **close)
    torch.testing.assert_close(ours.encode_text(ids), texts_, **close)
    torch.testing.assert_close(ours.logits(images_, texts_), theirs.get_logits(images, ids)[0], **close)
    trunk = theirs.visual.trunk
    patches = trunk.forward_features(images)[:, trunk.num_prefix_tokens :]
    torch.testing.assert_close(ours.image_encoder.features(images).patches, patches, **close)
    torch.testing.assert_close(ours.image_encoder.dense(images)[0], patches, **close)
    assert ours.encode_dense(images).shape == (2, theirs.text.output_dim, *ours.image_encoder.dense(images)[1])


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_other_image_sizes_equal_timms(tmp_path, name):
    save_folder(tmp_path, name)
    tower = from_pretrained(tmp_path).model.image_encoder
    trunk = timm.create_model(name, num_classes=0, global_pool='', dynamic_img_size=True).eval()
    trunk.load_state_dict(tower.trunk.state_dict())
    height, width = (3 * tower.patch_size[0], 6 * tower.patch_size[1])
    images = torch.randn(2, 3, height, width)
    expected = trunk.forward_features(images)[:, trunk.num_prefix_tokens :]
    torch.testing.assert_close(tower.features(images).patches, expected, rtol=0, atol=1e-5)
    padded = torch.nn.functional.pad(images[..., :-3], (0, 3))
    torch.testing.assert_close(tower.dense(images[..., :-3])[0], tower.dense(padded)[0])
    assert tower.unpadded_fraction((height, width - 3)) == (1.0, (width - 3) / width)


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_blocks_in_parts_are_the_whole_block(tmp_path, name):
    save_folder(tmp_path, name)
    tower = from_pretrained(tmp_path).model.image_encoder
    tokens, grid = tower.embed(torch.randn(2, 3, *tower.img_size))
    x, block = tower.first_input(tokens), tower.blocks(grid)[1]
    q, k, v = block.heads(x)
    attended = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v
    parts = block.feed_forward(x + block.project(attended.transpose(1, 2).flatten(2)))
    torch.testing.assert_close(parts, block(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['tiny_patch8_siglip_32', 'tiny_patch8_pe_core_32'])
@torch.no_grad()
def test_masked_pass_sees_the_visible_patches_alone(tmp_path, name):
    save_folder(tmp_path, name)
    tower = from_pretrained(tmp_path).model.image_encoder
    tokens, _ = tower.embed(torch.randn(2, 3, 32, 32))
    order = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    whole = tower.encode(tokens)
    shuffled = tower.encode(tokens, order)  # Attention does not know the order of its tokens.
    expected = whole.patches.gather(1, order.unsqueeze(-1).expand(-1, -1, 32))
    torch.testing.assert_close(shuffled.patches, expected, rtol=1e-4, atol=1e-5)
    assert tower.encode(tokens, order[:, :5]).patches.shape == (2, 5, 32)


@pytest.mark.parametrize('name', ['tiny_patch8_siglip_32', 'tiny_patch8_pe_core_32'])
@torch.no_grad()
def test_one_patch_is_pooled_as_open_clip_pools_an_image_of_it(tmp_path, name):
    theirs, ours = save_folder(tmp_path, name), from_pretrained(tmp_path).model
    images = torch.randn(1, 3, 32, 32)
    dense = ours.encode_dense(images).flatten(2)[0].T  # (N, D)
    trunk = theirs.visual.trunk
    patches = trunk.forward_features(images)[0, trunk.num_prefix_tokens :].unsqueeze(1)  # (N, 1, C)
    alone = theirs.visual.head(trunk.head(trunk.attn_pool(patches)))
    torch.testing.assert_close(dense, torch.nn.functional.normalize(alone, dim=-1), rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', MODELS)
@torch.no_grad()
def test_read_outs_equal_the_formulas(tmp_path, name):
    save_folder(tmp_path, name)
    tower = from_pretrained(tmp_path).model.image_encoder
    images = torch.randn(1, 3, 4 * tower.patch_size[0], 6 * tower.patch_size[1])
    for read_out, reference in REFERENCES.items():
        if 'tanh' in name and read_out != 'patch':
            continue  # Of another tower only the activation, which the references do not have.
        found, grid = tower.dense(images, read_out)
        if 'tanh' in name:
            assert torch.equal(found, tower.features(images).patches)
            continue
        (x,) = blocks_input(tower, images)
        expected = reference(TimmReference(tower, grid), x, grid)
        np.testing.assert_allclose(found[0].numpy(), expected, atol=5e-5, rtol=1e-3, err_msg=read_out)


@pytest.mark.parametrize('name', ['tiny_patch8_siglip_32', 'tiny_patch8_eva02_32', 'tiny_mci_64'])
@torch.no_grad()
def test_registers_at_test_time_are_one_more_token(tmp_path, name):
    """One that takes over no neuron, and starts as zeros, is a token like any other: behind the class token."""
    save_folder(tmp_path, name)
    tower = from_pretrained(tmp_path).model.image_encoder
    images = torch.randn(1, 3, *tower.img_size)
    found, grid = tower.dense(images, dict(name='kk', registers={}))
    place = tower.trunk.num_prefix_tokens
    (x,) = blocks_input(tower, images)
    reference = TimmReference(tower, grid)
    reference.extra += 1
    expected = REFERENCES['kk'](reference, np.insert(x, place, 0, axis=0), grid)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=5e-5, rtol=1e-3)
    moved = tower.dense(images, dict(name='kk', registers={1: [3, 20]}))[0]
    assert not torch.allclose(moved, found, atol=1e-4)


def to_hugging_face(state):
    """SigLIP's names in transformers (modeling_siglip.py), for weights of OpenCLIP."""
    renamed = {}
    for name, value in state.items():
        inner = name.removeprefix('visual.trunk.')
        if name.startswith('visual.trunk.attn_pool.'):
            part = inner.removeprefix('attn_pool.')
            if part.startswith('kv.'):
                continue
            if part.startswith('q.'):
                kind = part[2:]
                joined = torch.cat((value, state[f'visual.trunk.attn_pool.kv.{kind}']))
                renamed[f'vision_model.head.attention.in_proj_{kind}'] = joined
                continue
            for theirs, other in (('latent', 'probe'), ('proj.', 'attention.out_proj.'), ('norm.', 'layernorm.')):
                part = re.sub(f'^{re.escape(theirs)}', other, part)
            renamed[f'vision_model.head.{part}'] = value
            continue
        block = re.fullmatch(r'(?:visual\.trunk\.blocks|text\.transformer\.resblocks)\.(\d+)\.(.+)', name)
        if block:
            side = 'vision' if name.startswith('visual') else 'text'
            prefix, part = f'{side}_model.encoder.layers.{block[1]}.', block[2]
            if re.match(r'attn\.(qkv\.|in_proj_)', part):
                for piece, of_piece in zip('qkv', value.chunk(3), strict=True):
                    renamed[f'{prefix}self_attn.{piece}_proj.{re.split("[._]", part)[-1]}'] = of_piece.contiguous()
                continue
            for theirs, other in (
                ('attn.proj', 'self_attn.out_proj'), ('attn.out_proj', 'self_attn.out_proj'), ('norm', 'layer_norm'),
                ('ln_', 'layer_norm'), ('mlp.c_fc', 'mlp.fc1'), ('mlp.c_proj', 'mlp.fc2'),
            ):  # fmt: skip
                part = re.sub(f'^{re.escape(theirs)}', other, part)
            renamed[prefix + part] = value
            continue
        other = {
            'visual.trunk.patch_embed.proj.weight': 'vision_model.embeddings.patch_embedding.weight',
            'visual.trunk.patch_embed.proj.bias': 'vision_model.embeddings.patch_embedding.bias',
            'visual.trunk.pos_embed': 'vision_model.embeddings.position_embedding.weight',
            'visual.trunk.norm.weight': 'vision_model.post_layernorm.weight',
            'visual.trunk.norm.bias': 'vision_model.post_layernorm.bias',
            'text.token_embedding.weight': 'text_model.embeddings.token_embedding.weight',
            'text.positional_embedding': 'text_model.embeddings.position_embedding.weight',
            'text.ln_final.weight': 'text_model.final_layer_norm.weight',
            'text.ln_final.bias': 'text_model.final_layer_norm.bias',
            'text.text_projection.weight': 'text_model.head.weight',
            'text.text_projection.bias': 'text_model.head.bias',
        }.get(name, name)
        renamed[other] = value[0] if name == 'visual.trunk.pos_embed' else value
    return renamed


@torch.no_grad()
def test_hugging_faces_siglip_equals_open_clips(tmp_path, monkeypatch):
    monkeypatch.setitem(KNOWN_TRUNKS, 'tiny_patch8_siglip', ('siglip', 32, 4, 8))
    theirs = open_clip_model('tiny_patch8_siglip_tanh_32')
    save_file(to_hugging_face(theirs.state_dict()), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text(json.dumps(dict(text_config=dict(num_attention_heads=2))))
    ours = from_pretrained(tmp_path).model
    images, ids = torch.randn(2, 3, 32, 32), word_ids(model_cfg('tiny_patch8_siglip_32')['text_cfg'])
    torch.testing.assert_close(
        ours.encode_image(images), theirs.encode_image(images, normalize=True), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(ours.encode_text(ids), theirs.encode_text(ids, normalize=True), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    'architecture',
    ['ViT-B-16-SigLIP-384', 'ViT-SO400M-14-SigLIP2-378', 'EVA02-L-14-336', 'PE-Core-S-16-384', 'MobileCLIP-B'],
)
def test_a_file_without_a_config_is_known_by_its_weights(architecture):
    """The config that is told from names and shapes alone is the one that OpenCLIP's list of models gives."""
    settings = open_clip.get_model_config(architecture)
    settings['text_cfg']['vocab_size'] = min(settings['text_cfg']['vocab_size'], 256000)
    with torch.device('meta'):
        model = open_clip.model.CustomTextCLIP(
            settings['embed_dim'], settings['vision_cfg'], settings['text_cfg'],
            init_logit_bias=settings.get('init_logit_bias'),
        )  # fmt: skip
    state = model.state_dict()
    alone = tower_config({}, state, Source('weights.pt'))
    beside = dict(model_cfg=settings, preprocess_cfg={})
    assert alone == tower_config({}, state, Source('weights.pt', beside))
    assert alone['image_encoder']['model_name'] == settings['vision_cfg']['timm_model_name']


def test_an_unknown_trunk_names_the_nearest():
    state = open_clip_model('tiny_patch8_pe_core_32').state_dict()
    with pytest.raises(ValueError, match=r'nearest known tower is vit_pe_core_\S+ of timm; it differs in width 32 for'):
        tower_config({}, state, Source('weights.pt'))
    with pytest.raises(ValueError, match=r"fc_norm\.weight' is of a pool that cannot.*Known towers of t"):
        tower_config({}, {**state, 'visual.trunk.fc_norm.weight': torch.ones(1)}, Source('weights.pt'))


CONFIGS = {
    'siglip_vitb16': 'ViT-B-16-SigLIP',
    'siglip_so400m14_378': 'ViT-SO400M-14-SigLIP-378',
    'siglip2_vitb16': 'ViT-B-16-SigLIP2',
    'siglip2_vitb16_256': 'ViT-B-16-SigLIP2-256',
    'eva02_vitb16': 'EVA02-B-16',
    'eva02_vitl14_336': 'EVA02-L-14-336',
    'pe_core_vitb16': 'PE-Core-B-16',
    'pe_core_vitl14_336': 'PE-Core-L-14-336',
    'mobileclip_vitb16': 'MobileCLIP2-B',
}


@pytest.mark.parametrize('name', CONFIGS)
def test_configs_are_those_of_open_clips_list_of_models(name):
    settings = open_clip.get_model_config(CONFIGS[name])
    with torch.device('meta'):
        theirs = open_clip.model.CustomTextCLIP(
            settings['embed_dim'], settings['vision_cfg'], settings['text_cfg'],
            init_logit_bias=settings.get('init_logit_bias'),
        )  # fmt: skip
        model = Config.fromfile(paths.CONFIGS / f'pretrained/{name}.py').model
        ours = REGISTRY.build(model)
    state = convert_weights(theirs.state_dict(), 'weights')
    assert {key: value.shape for key, value in ours.state_dict().items()} == {
        key: value.shape for key, value in state.items()
    }
    expected = tower_config({}, theirs.state_dict(), Source('weights.pt', dict(model_cfg=settings)))
    for part in ('image_encoder', 'image_projection', 'text_encoder', 'text_projection'):
        assert settings_of(model[part]) == settings_of(expected[part]), part
    pixels = dict(resize_mode='shortest') | dict(model.data_preprocessor)
    assert pixels.keys() == expected['data_preprocessor'].keys()
    for key, value in expected['data_preprocessor'].items():
        assert pixels[key] == (pytest.approx(value) if isinstance(value, list) else value), key


def settings_of(part):
    """Arguments that differ from the defaults; a tokenizer's place is the user's."""
    defaults = {
        key: parameter.default for key, parameter in inspect.signature(REGISTRY.get(part['type'])).parameters.items()
    }
    found = {key: value for key, value in dict(part).items() if defaults.get(key) != value}
    if 'tokenizer' in found:
        found['tokenizer'] = {**found['tokenizer'], 'file': None}
    return found


@pytest.mark.parametrize('name', ['tiny_patch8_siglip_32', 'tiny_patch8_pe_core_32', 'tiny_mci_64'])
def test_it_trains(tmp_path, name):
    save_folder(tmp_path, name)
    config = from_pretrained(tmp_path).config
    config['objectives']['distillation'] = dict(
        type='MaskedSelfDistillation',
        decoder=dict(type='MaskedTokenDecoder', num_patches=16, width=32, num_heads=2),
        loss=dict(type='FeatureRegressionLoss'),
    )
    model = REGISTRY.build(config)
    model.init_weights()
    side, ids = model.image_encoder.img_size[0], word_ids(model_cfg(name)['text_cfg'])
    losses = model(mode='loss', image=torch.randn(3, 3, side, side), tokens=ids, seed=torch.arange(3))
    sum(value for key, value in losses.items() if 'loss' in key).backward()
    trained = {key: value.grad for key, value in model.named_parameters() if value.requires_grad}
    assert not [key for key, gradient in trained.items() if gradient is None or not gradient.any()]
