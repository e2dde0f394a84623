"""Parts that get signals, stop, or die, for configs made from tiny.py."""

import os
import signal
from pathlib import Path

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from tiny_parts import TinyPairs, make_sample

from mmmaskclip.registry import DATASETS, FUNCTIONS, HOOKS


@HOOKS.register_module()
class SignalAt(Hook):
    """Sends this process, on one rank, or its whole group a signal before an iteration, or before a validation."""

    def __init__(self, number, at, rank=0, group=False, in_val=False):
        self.number, self.at, self.rank, self.group, self.in_val = number, at, rank, group, in_val

    def _send(self, runner):
        if runner.iter == self.at and get_rank() == self.rank:
            os.kill(0 if self.group else os.getpid(), self.number)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if not self.in_val:
            self._send(runner)

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if self.in_val and batch_idx == 0:
            self._send(runner)


@DATASETS.register_module()
class FaultyPairs(TinyPairs):
    """Stops in a pipe, or kills its process, at sample 9 on one rank."""

    def __init__(self, fault, folder, rank=0, size=16):
        super().__init__(size)
        self.fault, self.pipe, self.rank = fault, Path(folder) / 'pipe', rank

    def __getitem__(self, index):
        if index == 9 and get_rank() == self.rank:
            if self.fault == 'kill':
                os.kill(os.getpid(), signal.SIGKILL)
            read_from_stuck_pipe(self.pipe)
        return make_sample(index)


@FUNCTIONS.register_module()
def collate_four_pixels(samples):
    """Of images, what TinyModel takes."""
    return {
        'image': torch.stack([sample['image'].flatten()[:4].float() for sample in samples]),
        'key': [sample['key'] for sample in samples],
    }


def read_from_stuck_pipe(path):
    os.open(path, os.O_RDONLY)
