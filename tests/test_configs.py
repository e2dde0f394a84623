"""Every config builds, has the published size, and runs as its header says."""

import ast
import gc
import io
import json
import re
from itertools import islice

import mmpretrain
import numpy as np
import pytest
import torch
import webdataset
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import MAEPretrainDecoder
from one_layer import shrink
from paths import CONFIGS, DATA
from PIL import Image

from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.engine import ReliableRunner
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.backbones.vision_transformer import ARCHITECTURES
from mmmaskclip.models.necks import MaskedTokenDecoder
from mmmaskclip.registry import MODELS

FLICKR8K = DATA / 'flickr8k'
# Those that only evaluate, or train on top of a pretrained tower, have tests of their own.
EVALUATION = {'pretrained', 'probes', 'region_accuracy', 'retrieval', 'zero_shot', 'zero_shot_seg'}
DOWNSTREAM = {'linear_probe', 'finetune', 'upernet', 'mask_rcnn', 'ov_mask_rcnn'}
RUNS = sorted(
    path
    for path in CONFIGS.rglob('*.py')
    if not {'_base_', *EVALUATION, *DOWNSTREAM} & set(path.relative_to(CONFIGS).parts)
)
# Those that train on our datasets; DeiT has mmpretrain's.
PRETRAINING = [path for path in RUNS if path.parent.name != 'deit']
TOWERS = {'vitb16': 85.80, 'vitb32': 87.46}  # timm's vit_base_patch16_224 and vit_base_patch32_224 without classifier


def _name(path):
    return str(path.relative_to(CONFIGS))


PAPER_SCALE = [path for path in PRETRAINING if path.name.startswith(tuple(TOWERS))]


def _model(path):
    with torch.device('meta'):
        return MODELS.build(Config.fromfile(path).model)


def _parts(module):
    """Every module of a model."""
    return [part for _, part in module.named_modules()]


@pytest.fixture(scope='module', autouse=True)
def registered():
    # As tests/conftest.py does for each test: the default scope of this file must not reach the next.
    before = DefaultScope._instance_dict.copy()
    register_all_modules()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)


@pytest.mark.parametrize('path', RUNS, ids=_name)
def test_header_gives_the_command(path):
    header = ' '.join(ast.get_docstring(ast.parse(path.read_text())).split())
    assert _name(path) in header
    assert any(word in header for word in ('Measured on', 'not run', 'Not run'))


@pytest.mark.parametrize('path', PRETRAINING, ids=_name)
def test_builds_and_its_parts_fit_each_other(path):
    cfg, model = Config.fromfile(path), _model(path)
    tower = model.backbone if hasattr(model, 'backbone') else model.image_encoder
    patches = tower.patch_resolution[0] * tower.patch_resolution[1]
    assert {
        part.num_patches for part in _parts(model) if isinstance(part, (MaskedTokenDecoder, MAEPretrainDecoder))
    } <= {patches}
    # Views that are encoded as whole images have the tower's size; local crops have their own.
    for views in _all_views(cfg):
        views.pop('local', None)
        sizes = {step.get('size') for steps in views.values() for step in steps if 'size' in step}
        assert sizes == {tower.img_size[0]}


def _all_views(cfg):
    dataset = cfg.train_dataloader.dataset
    sources = [source.dataset for source in dataset.sources.values()] if 'sources' in dataset else [dataset]
    return [dict(source.views) for source in sources]


@pytest.mark.parametrize('path', sorted((CONFIGS / 'unicl').glob('*.py')), ids=_name)
def test_unicl_draws_from_clips_80_templates(path):
    sources = [source.dataset for source in Config.fromfile(path).train_dataloader.dataset.sources.values()]
    templates = [source.templates for source in sources if source.type.endswith('ClassCaptionShards')]
    assert set(templates) == {'imagenet_80'}


def test_every_training_skips_steps_that_are_not_finite():
    paths = [*RUNS, *(path for folder in DOWNSTREAM for path in (CONFIGS / folder).glob('*.py'))]
    for path in paths:
        cfg = Config.fromfile(path)
        hooks = [hook.type for hook in [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]]
        assert cfg.optim_wrapper.type.removeprefix('mmmaskclip.') == 'PretrainOptimWrapper', path
        assert [hook.removeprefix('mmmaskclip.') for hook in hooks].count('NonFiniteHook') == 1, path


def test_deit_is_our_tower_under_mmpretrains_recipe():
    cfg = Config.fromfile(CONFIGS / 'deit/vitb16_in1k.py')
    with torch.device('meta'):
        model = mmpretrain.registry.MODELS.build(cfg.model)
    assert type(model.backbone) is CLIPVisionTransformer
    assert _millions(model.backbone) == pytest.approx(TOWERS['vitb16'], abs=0.01)
    assert cfg.train_cfg.max_epochs == 300


def _millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_published_sizes(path):
    model = _model(path)
    tower = model.backbone if hasattr(model, 'backbone') else model.image_encoder
    assert _millions(tower) == pytest.approx(TOWERS[path.name[:6]], abs=0.01)
    if getattr(model, 'text_encoder', None) is not None:
        text = _millions(model.text_encoder) + _millions(model.text_projection)
        assert text == pytest.approx(63.43, abs=0.01)  # OpenCLIP's model profile
        assert len(model.image_encoder.layers) == len(model.text_encoder.layers) == 12


# lr and weight decay: CLIP's of SLIP's code, but for these.
CVPR = (1e-3, 0.1)  # MaskCLIP's supplement, section B: what trains on YFCC15M and its ablations, CC3M, ICinW
RECIPES = {
    'maskclip/vitb16_yfcc15m_cvpr.py': CVPR,
    'maskclip/vitb32_yfcc15m_cvpr.py': CVPR,
    'maskclip/vitb16_cc3m_cvpr.py': CVPR,
    'clip_mae/vitb16_yfcc15m_cvpr.py': CVPR,
    'unicl/vitb16_icinw_cvpr.py': CVPR,
    'slip/vitb16_yfcc15m.py': (3e-3, 0.1),  # SLIP's code
}


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_papers_runs_are_watched_and_keep_checkpoints_to_go_back_to(path):
    cfg = Config.fromfile(path)
    assert cfg.default_hooks.checkpoint.keep_every == 5000
    if path.parent.name in ('mae', 'simclr'):  # no text tower
        return
    assert list(cfg.val_dataloader) == list(cfg.val_evaluator) == ['imagenet', 'cifar10']
    assert (cfg.train_cfg.val_interval_iters, cfg.val_cfg.skip_missing) == (5000, True)
    assert cfg.default_hooks.logger.log_metric_by_epoch is False


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_papers_recipe(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.lr, optimizer.weight_decay) == RECIPES.get(_name(path), (5e-4, 0.5))
    assert 32 * cfg.train_dataloader.batch_size == (16384 if path.parent.name == 'unicl' else 4096)
    named = re.search(r'_(\d+)e$', path.stem)
    epochs = int(named[1]) if named else 32 if path.parent.name == 'unicl' else 25
    assert cfg.train_cfg.max_epochs == epochs
    warm_up, cosine = cfg.param_scheduler
    assert optimizer.lr * warm_up.start_factor == pytest.approx(1e-6)
    # Without an end of its own the cosine ends with the training.
    assert (warm_up.end, cosine.begin, cosine.get('end'), cosine.eta_min) == (1, 1, None, 1e-5)


@pytest.fixture
def freed():
    """A Runner and its model refer to each other: without this they stay until Python collects by itself, at 10 GB."""
    yield
    gc.collect()


def _provide(cfg, tmp_path):
    """What a run expects to find: real shards, a tokenizer, a first stage."""
    dataset = cfg.train_dataloader.dataset
    real = dict(urls=f'{FLICKR8K}/train-*.tar', caption_key='json:captions', shuffle_buffer=10)
    if dataset.type == 'ImageTextPairs':
        dataset.ann_file = _photos(tmp_path)
    elif 'sources' not in dataset:
        dataset.update(real)
    else:
        for source in dataset.sources.values():
            source.per_batch = 1
            if source.dataset.type == 'ImageTextShards':
                source.dataset.update(real)
            else:
                source.dataset.update(urls=_labelled_shard(tmp_path), classes=['cat', 'dog'])
    batch_size = len(dataset.get('sources', 'ab'))
    cfg.train_dataloader.update(
        batch_size=batch_size, num_workers=0, persistent_workers=False, prefetch_factor=None, pin_memory=False
    )
    for objective in (cfg.model.get('objectives') or {}).values():
        if objective and 'frozen' in objective:
            objective.frozen.checkpoint = str(tmp_path / 'stage_one.pth')
            tower = MODELS.build(objective.frozen.encoder)
            torch.save({f'image_encoder.{k}': v for k, v in tower.state_dict().items()}, objective.frozen.checkpoint)
        if objective and 'tokenizer' in objective:
            objective.tokenizer.checkpoint = str(tmp_path / 'encoder.pth')
            torch.save(
                mmpretrain.registry.MODELS.build(dict(type='mmpretrain.DALL-E')).state_dict(),
                objective.tokenizer.checkpoint,
            )


def _photos(folder):
    """A folder of six photographs, for three steps."""
    photos = folder / 'photos'
    photos.mkdir()
    for number, pair in enumerate(islice(webdataset.WebDataset(sorted(map(str, FLICKR8K.glob('train-*.tar')))[:1]), 6)):
        (photos / f'{number}.jpg').write_bytes(pair['jpg'])
    return str(photos)


def _labelled_shard(folder):
    path = folder / 'labelled.tar'
    with webdataset.TarWriter(str(path)) as writer:
        for index in range(8):
            image = io.BytesIO()
            Image.new('RGB', (64, 64), (30 * index, 0, 0)).save(image, 'JPEG')
            writer.write({'__key__': f'{index:09d}', 'jpg': image.getvalue(), 'cls': str(index % 2).encode()})
    return str(path)


def _first_of_each_kind(paths):
    """Of configs that, with their models shrunk, differ in numbers alone, the first. All of them are built above."""
    kinds = {}
    for path in paths:
        cfg = Config.fromfile(path)
        shrink(cfg.model)
        dataset = cfg.train_dataloader.dataset
        parts = (
            cfg.model.to_dict(),
            dataset.get('type'),
            sorted(dataset.get('views', {})),
            cfg.optim_wrapper.get('type'),
        )
        kinds.setdefault(re.sub(r'\d+(\.\d+)?(e-?\d+)?', '#', str(parts)), path)
    return list(kinds.values())


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f'needs Flickr8k: {FLICKR8K} is missing')
@pytest.mark.parametrize('path', _first_of_each_kind(PRETRAINING), ids=_name)
@pytest.mark.usefixtures('freed')
def test_trains_three_steps_on_real_pairs(path, tmp_path, monkeypatch):
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path)
    shrink(cfg.model)
    _provide(cfg, tmp_path)
    cfg.train_cfg.max_epochs = 1
    # Of every source of a mix, one sample per batch.
    samples = 3 if 'sources' in cfg.train_dataloader.dataset else 3 * cfg.train_dataloader.batch_size
    monkeypatch.setattr(ImageTextShards, 'total_samples', samples)
    # Three steps are a hundredth of the warm-up.
    cfg.param_scheduler = []
    # At the papers' scale what is missing here is left out.
    if not (cfg.val_cfg and cfg.val_cfg.get('skip_missing')):
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    runner = ReliableRunner.from_cfg(cfg)
    runner.train()
    assert runner.iter == 3
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    rows = [row for row in map(json.loads, scalars) if 'loss' in row]
    assert len(rows) == 3
    assert np.isfinite([row['loss'] for row in rows]).all()
    assert all(row['grad_norm'] > 0 for row in rows)
    # DDP stops at a parameter that no loss uses.
    trained = [name for name, parameter in runner.model.named_parameters() if parameter.requires_grad]
    used = {id(parameter) for parameter in runner.optim_wrapper.optimizer.state}
    assert not [name for name in trained if id(runner.model.get_parameter(name)) not in used]


def test_deit_trains_three_steps(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'deit/vitb16_in1k.py')
    for index in range(6):
        path = tmp_path / f'images/class {index % 2}/{index}.jpg'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (64, 64), (40 * index, 0, 0)).save(path)
    cfg.work_dir = str(tmp_path)
    cfg.model.backbone.update(arch={**ARCHITECTURES['B'], 'num_layers': 1}, patch_size=16)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False, pin_memory=False)
    cfg.train_dataloader.dataset.update(type='CustomDataset', data_root=str(tmp_path / 'images'))
    cfg.train_dataloader.dataset.pop('split')
    cfg.train_cfg.max_epochs = 1
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.test_cfg = cfg.test_dataloader = cfg.test_evaluator = None
    cfg.param_scheduler = []
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    runner = ReliableRunner.from_cfg(cfg)
    before = runner.model.backbone.patch_embed.projection.weight.clone()
    runner.train()
    assert runner.iter == 3
    assert not torch.equal(runner.model.backbone.patch_embed.projection.weight, before)
