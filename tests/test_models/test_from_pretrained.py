"""Models from files alone: towers, pixels and tokens equal those of the libraries that the files are of."""

import json
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from mmengine.config import Config
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from PIL import Image
from safetensors.torch import save_file

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.checkpoints.config_text import model_config
from mmmaskclip.checkpoints.files import sha256_of, write_checkpoint
from mmmaskclip.cli.other_model import use_model
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS, TRANSFORMS

HALF = dict(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])


def photo(width=90, height=61):
    generator = np.random.default_rng(0)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def model_cfg(**vision):
    """A small CLIP whose heads have another width than usual, as those of ViT-H have."""
    return dict(
        embed_dim=16,
        vision_cfg=dict(layers=2, width=64, head_width=16, patch_size=8, image_size=32, **vision),
        text_cfg=dict(width=32, heads=4, layers=2, context_length=20),
    )


def clip(config):
    torch.manual_seed(0)
    model = CLIP(
        config['embed_dim'],
        CLIPVisionCfg(**config['vision_cfg']),
        CLIPTextCfg(**config['text_cfg']),
        quick_gelu=config.get('quick_gelu', False),
    )
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


def save_folder(folder, config, preprocess=None, name='open_clip_model.safetensors'):
    """A repository as OpenCLIP pushes it; its model."""
    folder.mkdir(exist_ok=True)
    model = clip(config)
    save_file(model.state_dict(), folder / name)
    preprocess = preprocess if preprocess is not None else dict(HALF, interpolation='bicubic', resize_mode='shortest')
    (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))
    return model


@pytest.mark.parametrize(
    ('vision', 'quick_gelu', 'preprocess'),
    [
        ({}, False, dict(HALF, interpolation='bicubic', resize_mode='shortest')),
        (dict(pool_type='avg', no_ln_pre=True), True, dict(HALF, interpolation='bilinear', resize_mode='squash')),
        (dict(norm_kwargs=dict(eps=1e-3)), False, dict(HALF, interpolation='bicubic', resize_mode='longest')),
    ],
)
@torch.no_grad()
def test_a_folder_of_open_clip_needs_no_config(tmp_path, vision, quick_gelu, preprocess):
    config = dict(model_cfg(**vision), quick_gelu=quick_gelu)
    save_folder(tmp_path / 'repository', config, preprocess)
    theirs, _, transform = open_clip.create_model_and_transforms(f'local-dir:{tmp_path / "repository"}')
    theirs.eval()
    ours = from_pretrained(tmp_path / 'repository')
    pixels = ours.preprocess(photo())
    torch.testing.assert_close(pixels, transform(photo()), rtol=0, atol=1e-5)
    texts = ['a red bus', 'two dogs ' * 30]
    tokens = open_clip.get_tokenizer(f'local-dir:{tmp_path / "repository"}')(texts)
    assert torch.equal(ours.tokenizer(texts), tokens[:, : ours.tokenizer(texts).shape[1]].int())
    for found, expected in (
        (ours.model.encode_image(pixels[None]), theirs.encode_image(pixels[None], normalize=True)),
        (ours.model.encode_text(ours.tokenizer(texts)), theirs.encode_text(tokens, normalize=True)),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_an_openai_archive_says_everything_itself(tmp_path):
    """The file that OpenAI published is told by three numbers that only it has."""
    config = dict(model_cfg(), quick_gelu=True)
    config['vision_cfg']['head_width'] = 64
    config['text_cfg'].update(width=128, heads=2)
    state = {**clip(config).state_dict(), 'input_resolution': torch.tensor(32)}
    torch.save(state, tmp_path / 'ViT.pt')
    found = from_pretrained(tmp_path / 'ViT.pt').config
    assert found['image_encoder']['quick_gelu']
    assert (found['image_encoder']['arch']['num_heads'], found['text_encoder']['num_heads']) == (1, 2)
    assert found['data_preprocessor']['interpolation'] == 'bicubic'


def test_an_activation_that_nothing_tells_is_asked_for(tmp_path):
    torch.save(clip(model_cfg()).state_dict(), tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'does not say its activation.*nearest known tower is ViT-\S+; it differs in'):
        from_pretrained(tmp_path / 'a.pt')


def test_a_run_of_ours_holds_its_config(tmp_path, tiny_model_cfg):
    torch.manual_seed(0)
    cfg = tiny_model_cfg()
    model = MODELS.build(cfg)
    text = f"_scope = 'x'\nmodel = {cfg!r}\nwork_dir = open('harm', 'w')\n"
    write_checkpoint(tmp_path / 'epoch_1.pth', {'state_dict': model.state_dict(), 'meta': {'cfg': text}})
    found = from_pretrained(tmp_path / 'epoch_1.pth')
    assert found.config == cfg
    assert torch.equal(found.model.image_encoder.pos_embed, model.image_encoder.pos_embed)


@pytest.mark.parametrize('value', ["__import__('os')", 'open("x")', 'dict(*[1])', '[x for x in y]', 'a.b', 'dict(**a)'])
def test_text_of_a_config_is_not_executed(value):
    with pytest.raises(ValueError, match='which is not executed'):
        model_config(f'model = dict(a={value})')


def test_text_of_a_config_is_read_as_mmengine_writes_it():
    text = "model = dict(\n    a=-1.5, b=(1, ), c=[None, True], d={'x.y': 'z', 3: inf}, e=dict(f=1e-05))\nx = f(x)\n"
    assert model_config(text) == dict(a=-1.5, b=(1,), c=[None, True], d={'x.y': 'z', 3: float('inf')}, e=dict(f=1e-05))
    assert model_config('x = 1') is None
    with pytest.raises(ValueError, match='cannot be read'):
        model_config('model = (')


def test_what_cannot_be_built_names_the_nearest_tower(tmp_path, tiny_model_cfg):
    torch.save(MODELS.build(tiny_model_cfg()).state_dict(), tmp_path / 'ours.pth')
    with pytest.raises(ValueError, match=r'holds no config of ours.* tower is ViT-B-16; it differs in width 32 for'):
        from_pretrained(tmp_path / 'ours.pth')
    names = ('visual.trunk.blocks.0.attn.qkv.weight', 'text.token_embedding.weight')
    torch.save({name: torch.zeros(1, 1) for name in names}, tmp_path / 'timm.pt')
    with pytest.raises(ValueError, match=r'nearest known tower is eva02_base\S+ of timm; it differs in width 0'):
        from_pretrained(tmp_path / 'timm.pt')
    save_folder(tmp_path / 'scaled', model_cfg(ls_init_value=0.1))
    with pytest.raises(ValueError, match=r'model with ls_init_value=0\.1 in its image tower'):
        from_pretrained(tmp_path / 'scaled')


def test_a_folder_without_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'is a folder without open_clip_model\.safetensors or'):
        from_pretrained(tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A stand-in for huggingface_hub with one repository; in its cache large files are named by their SHA-256."""
    repository = tmp_path / 'repository'
    save_folder(repository, model_cfg())
    cache, asked = tmp_path / 'cache', []
    cache.mkdir()

    class EntryNotFoundError(Exception): ...

    class HfHubHTTPError(Exception):
        response = types.SimpleNamespace(status_code=401)

    class HfApi:
        error = None

        def model_info(self, repository_id, revision, timeout):
            if self.error:
                raise self.error
            names = [path.name for path in repository.iterdir()]
            return types.SimpleNamespace(siblings=[types.SimpleNamespace(rfilename=name) for name in names])

    def hf_hub_download(repo_id, filename, revision=None, local_files_only=False):
        asked.append((repo_id, filename, revision))
        if local_files_only and not (cache / 'snapshot' / filename).exists():
            raise EntryNotFoundError(filename)
        blob = cache / (sha256_of(repository / filename) if filename.endswith('safetensors') else filename)
        if not blob.exists():
            shutil.copy(repository / filename, blob)
        (cache / 'snapshot').mkdir(exist_ok=True)
        link = cache / 'snapshot' / filename
        if not link.exists():
            link.symlink_to(blob)
        return str(link)

    package = types.SimpleNamespace(hf_hub_download=hf_hub_download, HfApi=HfApi)
    monkeypatch.setitem(sys.modules, 'huggingface_hub', package)
    errors = types.SimpleNamespace(
        EntryNotFoundError=EntryNotFoundError, LocalEntryNotFoundError=FileNotFoundError, HfHubHTTPError=HfHubHTTPError
    )
    monkeypatch.setitem(sys.modules, 'huggingface_hub.errors', errors)
    return types.SimpleNamespace(cache=cache, asked=asked, api=HfApi, http_error=HfHubHTTPError)


def test_a_repository_of_hugging_face_is_fetched_and_checked(hub):
    cache, asked = hub.cache, hub.asked
    found = from_pretrained('hf://owner/name@v2')
    assert Path(found.path).name == 'open_clip_model.safetensors'
    assert found.config['data_preprocessor']['mean'] == [127.5] * 3
    assert {(repository, revision) for repository, _, revision in asked} == {('owner/name', 'v2')}
    blob = next(file for file in cache.iterdir() if re.fullmatch('[0-9a-f]{64}', file.name))
    blob.write_bytes(blob.read_bytes()[:-4] + b'abcd')
    with pytest.raises(ValueError, match='is damaged: its SHA-256 is'):
        from_pretrained('hf://owner/name')


def test_without_a_network_the_cache_is_used_and_nothing_else_is_waited_for(hub, monkeypatch):
    monkeypatch.setattr(hub.api, 'error', ConnectionError('no route to host'))
    with pytest.raises(FileNotFoundError, match='the hub cannot be reached, and its cache on this machine has no'):
        from_pretrained('hf://owner/name')
    monkeypatch.setattr(hub.api, 'error', None)
    online = from_pretrained('hf://owner/name')
    monkeypatch.setattr(hub.api, 'error', ConnectionError('no route to host'))
    offline = from_pretrained('hf://owner/name')
    assert (offline.path, offline.config) == (online.path, online.config)
    monkeypatch.setattr(hub.api, 'error', hub.http_error('401 Client Error: it is gated'))
    with pytest.raises(FileNotFoundError, match=r'hf://owner/name cannot be read: 401 Client Error'):
        from_pretrained('hf://owner/name')


@pytest.mark.parametrize(
    ('source', 'package', 'command'),
    [('hf://a/b', 'huggingface_hub', 'huggingface_hub'), ('openclip:ViT-B-32/x', 'open_clip', 'open_clip_torch')],
)
def test_a_missing_package_is_named(monkeypatch, source, package, command):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f'pip install {command}'):
        from_pretrained(source)


def test_a_name_of_open_clip(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r'openclip:ViT-B-32/laion: .* its tags are .*laion2b_s34b_b79k'):
        from_pretrained('openclip:ViT-B-32/laion')
    with pytest.raises(FileNotFoundError, match=r"no weights of 'ViT-B-33'"):
        from_pretrained('openclip:ViT-B-33/laion')
    config = model_cfg()
    torch.save(clip(config).state_dict(), tmp_path / 'a.pt')
    monkeypatch.setattr('open_clip.pretrained.download_pretrained', lambda cfg: str(tmp_path / 'a.pt'))
    monkeypatch.setattr('open_clip.get_model_config', lambda name: config)
    found = from_pretrained('openclip:ViT-B-32/openai').config
    # OpenAI's weights have the other activation, which OpenCLIP's list of weights says and not its list of models.
    assert found['image_encoder']['quick_gelu']
    assert found['image_encoder']['arch']['num_heads'] == 4
    assert not from_pretrained('openclip:ViT-B-32/laion2b_s34b_b79k').config['image_encoder']['quick_gelu']


def test_inferencer_takes_a_file_without_a_config(tmp_path):
    model = save_folder(tmp_path / 'a', dict(model_cfg(), quick_gelu=True), dict(HALF, resize_mode='squash'))
    clip = ImageTextInferencer(tmp_path / 'a', device='cpu')
    pixels = torch.from_numpy(np.array(photo().resize((32, 32), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    expected = model.encode_image((pixels[None] / 255 - 0.5) / 0.5, normalize=True)
    torch.testing.assert_close(clip.embed_images([photo()]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('mode', ['shortest', 'squash', 'longest'])
def test_evaluation_takes_model_and_resize_from_the_file(tmp_path, mode):
    save_folder(tmp_path / 'a', model_cfg(), dict(HALF, interpolation='bicubic', resize_mode=mode))
    resize, crop = dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)
    cfg = Config(
        dict(
            test_dataloader=dict(dataset=dict(type='EvaluationShards', transforms=[resize, crop])),
            test_evaluator=dict(type='ImageTextRetrieval'),
        )
    )
    if mode == 'longest':
        with pytest.raises(ConfigMistake, match="resize_mode='longest'"):
            use_model(cfg, 'auto', str(tmp_path / 'a'))
        return
    assert use_model(cfg, 'auto', str(tmp_path / 'a')) == str(tmp_path / 'a/open_clip_model.safetensors')
    dataset = cfg.test_dataloader.dataset
    size = [32, 32] if mode == 'squash' else 32
    assert dataset.transforms[0] == dict(type='torchvision/Resize', size=size, interpolation=3)
    assert (dataset.transforms[1].size, dataset.context_length) == (32, 20)
    found = TRANSFORMS.build(dataset.transforms[0])(photo())
    assert found.size == ((32, 32) if mode == 'squash' else (47, 32))
    assert MODELS.build(cfg.model).data_preprocessor.interpolation == 'bicubic'
