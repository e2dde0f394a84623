"""A model and datasets small enough to train in a test; tiny.py and configs made from it import this module by name."""

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from torch.utils.data import Dataset, IterableDataset

from mmmaskclip.registry import DATASETS, FUNCTIONS, METRICS, MODELS


@FUNCTIONS.register_module()
def tiny_collate(samples):
    return {
        'image': torch.stack([sample['image'] for sample in samples]),
        'key': [sample['key'] for sample in samples],
        'skipped': [bad for sample in samples for bad in sample.get('skipped', [])],
    }


@MODELS.register_module()
class TinyModel(BaseModel):
    """Predicts the mean of its input; notes what it saw and what the hooks told it."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.teacher = torch.nn.Linear(4, 4).requires_grad_(False)
        self.progress, self.steps, self.seen = [], 0, []

    def forward(self, image, key, skipped=None, mode='loss'):
        if mode == 'predict':
            return [{'image_embed': row} for row in self.layer(image)]
        self.seen += key
        error = self.layer(image) - image.mean(1, keepdim=True)
        return {'square_loss': error.square().mean() * self.logit_scale.exp(), 'batch_mean': image.mean()}

    def set_progress(self, progress):
        self.progress.append(progress)

    def after_optimizer_step(self):
        self.steps += 1

    def logged(self):
        return {'temperature': torch.tensor(0.07), 'teacher_momentum': 0.99912}


def make_sample(index, epoch=0):
    generator = torch.Generator().manual_seed(1000 * epoch + index)
    return {'image': torch.randn(4, generator=generator), 'key': str(index)}


@DATASETS.register_module()
class TinyPairs(Dataset):
    """Map-style; notes each sample it loads."""

    metainfo: dict = {}

    def __init__(self, size=16):
        self.size, self.loaded = size, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.loaded.append(index)
        return make_sample(index)


@DATASETS.register_module()
class TinyShards(IterableDataset):
    """Iterable; its order and values depend on the epoch, it can start late, and sample 3 was preceded by a bad one."""

    metainfo: dict = {}

    def __init__(self, size=16, delivers=None, error=None):
        self.size, self.delivers, self.error = size, size if delivers is None else delivers, error
        self.loaded, self.calls, self.preflights = [], [], 0

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
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        for index in order[self.start : self.delivers]:
            self.loaded.append(index)
            bad = [{'cause': 'empty', 'key': 'k', 'shard': 's', 'detail': ''}] if index == 3 else []
            yield make_sample(index, self.epoch) | {'skipped': bad}


@METRICS.register_module()
class TinyMetric(BaseMetric):
    """The sum of all predictions."""

    default_prefix = 'tiny'

    def process(self, data_batch, data_samples):
        self.results += [sample['image_embed'].sum().item() for sample in data_samples]

    def compute_metrics(self, results):
        return {'sum': sum(results), 'count': len(results)}
