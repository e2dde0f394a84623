"""A model and datasets small enough to train in a test, written as a module that configs import by name."""

import sys
from pathlib import Path

import pytest

PARTS = '''
import torch
from mmengine.model import BaseModel
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from mmmaskclip.registry import DATASETS, FUNCTIONS, MODELS


@FUNCTIONS.register_module()
def collate_numbers(samples):
    return dict(image=torch.stack([s['image'] for s in samples]), key=[s['key'] for s in samples],
                skipped=[bad for s in samples for bad in s.get('skipped', [])])


@MODELS.register_module()
class TinyModel(BaseModel):
    """Predicts the mean of its input; remembers what the hooks told it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.teacher = torch.nn.Linear(4, 4).requires_grad_(False)
        self.progress, self.steps, self.seen = [], 0, []

    def forward(self, image, key=None, skipped=None, mode='loss'):
        if mode == 'predict':
            return [dict(image_embed=row) for row in self.layer(image)]
        self.seen += key
        difference = self.layer(image) - image.mean(1, keepdim=True)
        return dict(square_loss=difference.square().mean() * self.logit_scale.exp(), batch_mean=image.mean())

    def set_progress(self, progress):
        self.progress.append(progress)

    def after_optimizer_step(self):
        self.steps += 1

    def logged(self):
        return dict(temperature=torch.tensor(0.07), teacher_momentum=0.99912)


def sample(index, seed=0):
    generator = torch.Generator().manual_seed(1000 * seed + index)
    return dict(image=torch.randn(4, generator=generator), key=str(index))


@DATASETS.register_module()
class Numbers(Dataset):
    """Map-style; notes each sample it loads."""

    metainfo = dict()

    def __init__(self, size=16):
        self.size, self.loaded = size, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.loaded.append(index)
        return sample(index)


@DATASETS.register_module()
class Stream(IterableDataset):
    """Iterable; its order and values depend on the epoch, and it can start late."""

    metainfo = dict()

    def __init__(self, size=16, error=None):
        self.size, self.error, self.loaded, self.calls, self.preflights = size, error, [], [], 0

    def __len__(self):
        return self.size

    def preflight(self):
        self.preflights += 1
        if self.error:
            raise ValueError(self.error)

    def begin_epoch(self, epoch, seed, batch_size, start_batch=0):
        self.calls.append((epoch, seed, batch_size, start_batch))
        self.epoch, self.seed, self.start = epoch, seed, start_batch * batch_size

    def __iter__(self):
        assert get_worker_info() is None
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        for index in order[self.start:]:
            self.loaded.append(index)
            yield sample(index, self.epoch) | dict(skipped=[dict(cause='empty', key='k', shard='s', detail='')] if index == 3 else [])
'''

CONFIG = """
_base_ = '{base}'
custom_imports = dict(imports=['tiny_parts'])
model = dict(type='TinyModel')
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(type='{dataset}'), sampler={sampler},
                        collate_fn=dict(type='mmmaskclip.collate_numbers'))
train_cfg = dict(type='PretrainLoop', max_epochs=2)
optim_wrapper = dict(type='PretrainOptimWrapper', constructor='PretrainOptimWrapperConstructor',
                     clip_grad=dict(max_norm=1.0), optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1, fused=True))
param_scheduler = [dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=4),
                   dict(type='CosineAnnealingLR', by_epoch=False, begin=4, end=16, T_max=12)]
default_hooks = dict(logger=dict(interval=4), checkpoint=dict(interval=5, max_keep_ckpts=9))
"""

BASE = Path(__file__).parents[2] / 'configs/_base_/default_runtime.py'


@pytest.fixture
def parts(tmp_path, monkeypatch):
    """The module of tiny parts, importable in this process and, from its folder, in others."""
    (tmp_path / 'tiny_parts.py').write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop('tiny_parts', None)
    from mmmaskclip.registry import DATASETS, FUNCTIONS, MODELS

    import tiny_parts

    yield tiny_parts
    sys.modules.pop('tiny_parts', None)
    for registry, names in (
        (MODELS, ['TinyModel']),
        (DATASETS, ['Numbers', 'Stream']),
        (FUNCTIONS, ['collate_numbers']),
    ):
        for name in names:
            registry._module_dict.pop(name)


@pytest.fixture
def make_config(tmp_path, parts):
    """Returns a function that writes a config for the tiny parts and gives its path."""

    def write(dataset='Numbers', extra='', name='tiny.py'):
        sampler = "dict(type='DefaultSampler', shuffle=True)" if dataset == 'Numbers' else None
        path = tmp_path / name
        path.write_text(CONFIG.format(base=BASE, dataset=dataset, sampler=sampler) + extra)
        return path

    return write
