"""Checkpoints of OpenAI's, OpenCLIP's and Hugging Face's form, with random weights, against open_clip."""

import json
import re
import warnings
import zipfile

import open_clip
import paths
import pytest
import torch
from mmengine.config import Config
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP
from safetensors.torch import save_file
from torch.nn import functional as F

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.checkpoints.formats.huggingface import convert_hf_clip
from mmmaskclip.checkpoints.formats.open_clip import convert_open_clip
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.models.open_vocabulary import encode_classes
from mmmaskclip.registry import MODELS

CONFIGS = paths.CONFIGS / 'pretrained'
OPENCLIP_NAMES = {
    'openai_vitb16': 'ViT-B-16-quickgelu',
    'openai_vitb32': 'ViT-B-32-quickgelu',
    'openai_vitl14': 'ViT-L-14-quickgelu',
    'openai_vitl14_336': 'ViT-L-14-336-quickgelu',
    'openclip_vitb16': 'ViT-B-16',
    'openclip_vitb32': 'ViT-B-32',
    'openclip_vitl14': 'ViT-L-14',
    'openclip_vith14': 'ViT-H-14',
    'openclip_vitbigg14': 'ViT-bigG-14',
}


def theirs(quick_gelu=True, pool='tok', custom=False):
    """A small model of open_clip, with biases and norms that are not the constants they start at."""
    torch.manual_seed(0)
    image = CLIPVisionCfg(layers=2, width=64, head_width=32, patch_size=8, image_size=32, pool_type=pool)
    text = CLIPTextCfg(width=32, heads=2, layers=2)
    model = (CustomTextCLIP if custom else CLIP)(16, image, text, quick_gelu=quick_gelu).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def ours(quick_gelu=True, pool='cls', layers=2):
    """The same model of ours, from OpenAI's config."""
    cfg = Config.fromfile(CONFIGS / 'openai_vitb16.py').model
    arch = dict(embed_dims=64, num_layers=layers, num_heads=2, feedforward_channels=256)
    cfg.image_encoder.update(arch=arch, patch_size=8, img_size=32, quick_gelu=quick_gelu)
    cfg.image_projection.update(in_channels=64, embed_dims=16, pool=pool)
    cfg.text_encoder.update(width=32, num_layers=2, num_heads=2, quick_gelu=quick_gelu)
    cfg.text_projection.update(in_channels=32, embed_dims=16)
    return MODELS.build(cfg).eval()


def as_hf(state):
    """The same weights under transformers' names (modeling_clip.py) with its separate query, key and value."""
    renamed = {}
    for name, value in state.items():
        if name in ('attn_mask', 'logit_scale'):
            continue
        prefix = 'vision_model.' if name.startswith('visual.') else 'text_model.'
        name = name.removeprefix('visual.').replace('transformer.resblocks', 'encoder.layers')
        for old, new in (
            ('ln_1', 'layer_norm1'),
            ('ln_2', 'layer_norm2'),
            ('c_fc', 'fc1'),
            ('c_proj', 'fc2'),
            ('attn.out_proj', 'self_attn.out_proj'),
            ('ln_pre', 'pre_layrnorm'),
            ('ln_post', 'post_layernorm'),
            ('ln_final', 'final_layer_norm'),
            ('conv1', 'embeddings.patch_embedding'),
            ('class_embedding', 'embeddings.class_embedding'),
            ('positional_embedding', 'embeddings.position_embedding.weight'),
            ('token_embedding', 'embeddings.token_embedding'),
        ):
            name = name.replace(old, new)
        if name in ('proj', 'text_projection'):
            renamed['visual_projection.weight' if name == 'proj' else 'text_projection.weight'] = value.t().contiguous()
        elif 'in_proj' in name:
            kind = name.rsplit('_', 1)[1]
            for part, rows in zip('qkv', value.chunk(3), strict=True):
                layer = name.split('.attn.')[0]
                renamed[f'{prefix}{layer}.self_attn.{part}_proj.{kind}'] = rows.clone()
        else:
            renamed[prefix + name] = value.clone()
    renamed['logit_scale'] = state['logit_scale'].clone()
    renamed['text_model.embeddings.position_ids'] = torch.arange(77)[None]
    return renamed


def save_archive(model, path):
    """As OpenAI saved theirs: traced, in half precision, with three numbers as buffers."""
    for name, value in (('input_resolution', 32), ('context_length', 77), ('vocab_size', 49408)):
        vars(model).pop(name, None)
        model.register_buffer(name, torch.tensor(value))
    inputs = dict(encode_image=torch.zeros(1, 3, 32, 32), encode_text=torch.zeros(1, 77, dtype=torch.long))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.trace_module(model, inputs, check_trace=False).half().save(path)


def save(model, form, folder):
    """Writes a model as one of the public forms; the file's path."""
    state = model.state_dict()
    if form == 'archive':
        save_archive(model, folder / 'ViT.pt')
        return folder / 'ViT.pt'
    if form == 'training':
        state = {f'module.{name}': value for name, value in state.items()}
        torch.save({'epoch': 3, 'name': 'run', 'state_dict': state}, folder / 'epoch_3.pt')
        return folder / 'epoch_3.pt'
    source, end = form.split('_')
    state = as_hf(state) if source == 'hf' else state
    path = folder / f'model.{end}'
    (save_file if end == 'safetensors' else torch.save)(state, path)
    return path


@pytest.mark.parametrize(
    ('form', 'quick_gelu', 'pool', 'custom'),
    [
        ('archive', True, 'cls', False),
        ('training', False, 'mean', False),
        ('open_bin', True, 'mean', False),
        ('open_safetensors', False, 'cls', True),
        ('hf_bin', True, 'cls', False),
        ('hf_safetensors', False, 'mean', False),
    ],
)
@torch.no_grad()
def test_zero_shot_logits_equal_open_clips(tmp_path, form, quick_gelu, pool, custom):
    reference = theirs(quick_gelu, {'cls': 'tok', 'mean': 'avg'}[pool], custom)
    model = ours(quick_gelu, pool)
    load_weights(model, save(reference, form, tmp_path))
    if form == 'archive':
        reference = reference.half().float()  # as the file has them
    images = torch.randn(3, 3, 32, 32)
    classes, templates = ('cat', 'fire engine', 'sea'), load_prompts('imagenet_7').templates
    tokens = open_clip.get_tokenizer('ViT-B-32')
    means = [
        F.normalize(reference.encode_text(tokens([t.format(name) for t in templates]), normalize=True).mean(0), dim=0)
        for name in classes
    ]
    features = reference.encode_image(images, normalize=True)
    expected = reference.logit_scale.exp() * features @ torch.stack(means).t()
    found = model.logits(model.encode_image(images), encode_classes(model, classes, templates))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
    assert expected.std() > 0.1


def test_inferencer_takes_the_published_file(tmp_path):
    reference = theirs()
    used = ImageTextInferencer(ours(), save(reference, 'hf_safetensors', tmp_path), device='cpu')
    tokens = open_clip.get_tokenizer('ViT-B-32')(['a red bus'])
    torch.testing.assert_close(used.embed_texts(['a red bus']), reference.encode_text(tokens, normalize=True))


@pytest.mark.parametrize('name', OPENCLIP_NAMES)
def test_config_fits_the_published_model(name):
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model
    published = open_clip.get_model_config(OPENCLIP_NAMES[name])
    with torch.device('meta'):
        model = MODELS.build(cfg)
        reference = CLIP(
            published['embed_dim'], published['vision_cfg'], published['text_cfg'], published.get('quick_gelu', False)
        )
    converted = convert_open_clip(reference.state_dict())
    assert {key: value.shape for key, value in converted.items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }
    for tower, blocks in (
        (model.image_encoder, reference.visual.transformer.resblocks),
        (model.text_encoder, reference.transformer.resblocks),
    ):
        assert tower.layers[0].attn.num_heads == blocks[0].attn.num_heads
    for tower in (cfg.image_encoder, cfg.text_encoder):
        assert tower.get('quick_gelu', False) == published.get('quick_gelu', False)
    assert (cfg.image_projection.pool, cfg.image_encoder.pre_norm) == ('cls', True)


@pytest.mark.parametrize(
    ('name', 'arch', 'tag'),
    [
        ('openai_vitb16', 'ViT-B-16', 'openai'),
        ('openclip_vitb32', 'ViT-B-32', 'laion2b_s34b_b79k'),
        ('openclip_vitl14', 'ViT-L-14', 'laion2b_s32b_b82k'),
        ('openclip_vith14', 'ViT-H-14', 'laion2b_s32b_b79k'),
        ('openclip_vitbigg14', 'ViT-bigG-14', 'laion2b_s39b_b160k'),
    ],
)
def test_mean_and_std_are_those_of_the_weights(name, arch, tag):
    published = open_clip.get_pretrained_cfg(arch, tag)
    found = Config.fromfile(CONFIGS / f'{name}.py').model.data_preprocessor
    for key in ('mean', 'std'):
        assert found[key] == pytest.approx([255 * value for value in published[key]], abs=1e-6)


class Views(torch.nn.Module):
    """Buffers that are not the whole of their storage in order, or have other types."""

    def __init__(self):
        super().__init__()
        everything = torch.arange(12.0)
        for name, value in (
            ('transposed', everything.view(3, 4).t()),
            ('part', everything[5:9]),
            ('small', everything.bfloat16()),
            ('flags', everything > 3),
            ('empty', torch.zeros(0, 3)),
        ):
            self.register_buffer(name, value)

    def forward(self):
        return self.part + 1


@pytest.mark.parametrize('kind', ['clip', 'views'])
def test_archive_is_read_as_torch_reads_it(tmp_path, kind):
    if kind == 'clip':
        path = save(theirs(), 'archive', tmp_path)
    else:
        path = tmp_path / 'views.pt'
        torch.jit.script(Views()).save(path)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = torch.jit.load(path).state_dict()
    found = read_state_dict(path)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_archive_that_names_anything_else_is_refused(tmp_path):
    path = tmp_path / 'evil.pt'
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('evil/constants.pkl', b'')
        archive.writestr('evil/data.pkl', b'cos\nmkdir\n(V' + str(tmp_path / 'made').encode() + b'\ntR.')
    with pytest.raises(ValueError, match=r'evil\.pt.* refers to os\.mkdir, which could run code'):
        read_state_dict(path)
    assert not (tmp_path / 'made').exists()


def test_missing_and_surplus_names_are_told_in_ours(tmp_path):
    state = theirs().state_dict()
    del state['visual.proj']
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'1 missing: image_projection\.projection\.weight.*configs/pretrained'):
        load_weights(ours(), tmp_path / 'a.pt')
    save_file(as_hf(theirs().state_dict()), tmp_path / 'model.safetensors')
    with pytest.raises(ValueError, match=r'12 not in the model: image_encoder\.layers\.1\.ln1\.bias'):
        load_weights(ours(layers=1), tmp_path / 'model.safetensors')
    torch.save({**as_hf(theirs().state_dict()), 'vision_model.head.weight': torch.ones(1)}, tmp_path / 'b.bin')
    with pytest.raises(ValueError, match=r"b\.bin' cannot be loaded: 'vision_model\.head\.weight' is no weight of"):
        load_weights(ours(), tmp_path / 'b.bin')
    torch.save({'visual.layer1.0.conv1.weight': torch.zeros(1)}, tmp_path / 'rn50.pt')
    with pytest.raises(ValueError, match=r"rn50\.pt' cannot be loaded: 'visual\.layer1\.0\.conv1\.weight'"):
        load_weights(ours(), tmp_path / 'rn50.pt')


def test_hf_layer_without_its_keys_is_named():
    state = as_hf(theirs().state_dict())
    name = 'text_model.encoder.layers.1.self_attn.k_proj.bias'
    del state[name]
    with pytest.raises(KeyError, match=re.escape(name) + ' missing, while there is'):
        convert_hf_clip(state)
    for part in 'qv':
        del state[name.replace('k_proj', f'{part}_proj')]
    ours_name = 'text_encoder.layers.1.attn.qkv.bias'
    assert ours_name not in convert_hf_clip(state)


def test_wrong_activation_is_refused_where_the_file_tells_it(tmp_path):
    path = save(theirs(), 'archive', tmp_path)
    with pytest.raises(ValueError, match='is of a model with quick_gelu, but the config builds gelu'):
        load_weights(ours(quick_gelu=False), path)
    path = save(theirs(), 'hf_bin', tmp_path)
    for content, wanted, other in (
        ({'vision_config': {'hidden_act': 'gelu'}}, 'gelu', 'quick_gelu'),
        ({'vision_config': {}}, 'quick_gelu', 'gelu'),
    ):
        (tmp_path / 'config.json').write_text(json.dumps(content))
        load_weights(ours(quick_gelu=wanted == 'quick_gelu'), path)
        with pytest.raises(ValueError, match=f'is of a model with {wanted}, but the config builds {other}'):
            load_weights(ours(quick_gelu=other == 'quick_gelu'), path)


def settings_of(form, mean, std, quick_gelu=True):
    """Name and content of the file that tells them, as the two projects publish it."""
    if form.startswith('hf'):
        return 'preprocessor_config.json', {'image_mean': mean, 'image_std': std, 'do_resize': True}
    preprocess = {'mean': mean, 'std': std}
    return 'open_clip_config.json', {'model_cfg': {'quick_gelu': quick_gelu}, 'preprocess_cfg': preprocess}


@pytest.mark.parametrize('form', ['hf_bin', 'open_safetensors'])
def test_wrong_mean_and_std_are_refused_where_a_config_tells_them(tmp_path, form):
    path = save(theirs(), form, tmp_path)
    # OpenAI's, and those of all towers that were trained on pixels from -1 to 1.
    clips, half = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]), [0.5, 0.5, 0.5]
    name, content = settings_of(form, *clips)
    (tmp_path / name).write_text(json.dumps(content))
    load_weights(ours(), path)
    for mean, std, kind, values in (
        (half, clips[1], 'mean', (r'127\.50, 127\.50, 127\.50', r'122\.77, 116\.75, 104\.09')),
        (clips[0], half, 'std', (r'127\.50, 127\.50, 127\.50', r'68\.50, 66\.63, 70\.32')),
    ):
        (tmp_path / name).write_text(json.dumps(settings_of(form, mean, std)[1]))
        with pytest.raises(ValueError, match=rf'model with {kind} \[{values[0]}\].*{name}.*has \[{values[1]}\]'):
            load_weights(ours(), path)
    (tmp_path / name).write_text('{')
    with pytest.raises(ValueError, match=f'{name}.* is damaged'):
        load_weights(ours(), path)


def test_wrong_activation_is_refused_where_open_clips_config_tells_it(tmp_path):
    path = save(theirs(), 'open_bin', tmp_path)
    for content, wanted, other in (
        ({'model_cfg': {'quick_gelu': True}}, 'quick_gelu', 'gelu'),
        ({'model_cfg': {}}, 'gelu', 'quick_gelu'),
    ):
        (tmp_path / 'open_clip_config.json').write_text(json.dumps(content))
        load_weights(ours(quick_gelu=wanted == 'quick_gelu'), path)
        with pytest.raises(ValueError, match=f'is of a model with {wanted}, but the config builds {other}'):
            load_weights(ours(quick_gelu=other == 'quick_gelu'), path)


def test_damaged_safetensors_is_named(tmp_path):
    path = tmp_path / 'model.safetensors'
    path.write_bytes(b'<html>not found</html>')
    with pytest.raises(ValueError, match='model.safetensors.* is damaged'):
        read_state_dict(path)
