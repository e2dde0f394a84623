"""Every config builds, has the published size, and runs as its header says."""

import ast
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image

from mmmaskclip.registry import MODELS

CONFIGS = Path(__file__).parents[1] / 'configs'
RUNS = sorted(path for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
PAPER_SCALE = [path for path in RUNS if path.name.startswith('vitb16')]


def _name(path):
    return str(path.relative_to(CONFIGS))


def _model(path):
    with torch.device('meta'):
        return MODELS.build(Config.fromfile(path).model)


@pytest.mark.parametrize('path', RUNS, ids=_name)
def test_header_gives_the_command(path):
    assert _name(path) in ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize('path', RUNS, ids=_name)
def test_builds_and_the_decoder_fits_the_images(path):
    cfg, model = Config.fromfile(path), _model(path)
    grid = model.image_encoder.patch_resolution
    for objective in model.objectives.values():
        if hasattr(objective, 'decoder'):
            assert objective.decoder.num_patches == grid[0] * grid[1]
    sizes = {step.get('size') for step in cfg.train_dataloader.dataset.views.image if 'size' in step}
    assert sizes == {cfg.model.image_encoder.img_size}


def _millions(module):
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_published_sizes(path):
    model = _model(path)
    assert _millions(model.image_encoder) == pytest.approx(85.80, abs=0.01)  # timm's vit_base_patch16_224
    text = _millions(model.text_encoder) + _millions(model.text_projection)
    assert text == pytest.approx(63.43, abs=0.01)  # OpenCLIP's model profile
    assert len(model.image_encoder.layers) == len(model.text_encoder.layers) == 12


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_papers_recipe(path):
    cfg = Config.fromfile(path)
    optimizer = cfg.optim_wrapper.optimizer
    cvpr = _name(path) == 'maskclip/vitb16_yfcc15m.py'
    assert (optimizer.lr, optimizer.weight_decay) == ((1e-3, 0.1) if cvpr else (5e-4, 0.5))
    assert 32 * cfg.train_dataloader.batch_size == 4096
    assert cfg.train_cfg.max_epochs == 25
    warm_up, cosine = cfg.param_scheduler
    assert optimizer.lr * warm_up.start_factor == pytest.approx(1e-6)
    assert (warm_up.end, cosine.begin, cosine.end, cosine.eta_min) == (1, 1, 25, 1e-5)


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
    """Four pairs that have every caption key of the configs."""
    path = tmp_path_factory.mktemp('shards') / '00000.tar'
    with webdataset.TarWriter(str(path)) as writer:
        for index in range(4):
            image = io.BytesIO()
            noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(noise).save(image, 'JPEG')
            captions = dict(title=f'picture {index}', description=f'noise number {index}')
            files = {'jpg': image.getvalue(), 'txt': b'some noise', 'json': json.dumps(captions).encode()}
            writer.write({'__key__': f'{index:09d}', **files})
    return str(path)


@pytest.mark.parametrize('path', PAPER_SCALE, ids=_name)
def test_papers_scale_runs_two_steps(path, shards, tmp_path):
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path)
    cfg.train_dataloader.update(batch_size=2, num_workers=0, persistent_workers=False, prefetch_factor=None)
    cfg.train_dataloader.dataset.update(urls=shards)
    cfg.train_cfg.max_epochs = 1
    # Two steps are a hundredth of the warm-up.
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    runner = Runner.from_cfg(cfg)
    before = {name: value.clone() for name, value in runner.model.state_dict().items() if 'projection' in name}
    runner.train()
    assert runner.iter == 2
    after = runner.model.state_dict()
    assert not any(torch.equal(after[name], value) for name, value in before.items())
    scalars = next(tmp_path.glob('*/vis_data/scalars.json')).read_text().splitlines()
    losses = [row['loss'] for row in map(json.loads, scalars) if 'loss' in row]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
