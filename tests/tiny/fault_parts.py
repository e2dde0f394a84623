"""Parts that get signals, stop, or die, for configs made from tiny.py."""

import os
import signal
from pathlib import Path

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from tiny_parts import TinyPairs, make_sample

from mmmaskclip.registry import DATASETS, HOOKS


@HOOKS.register_module()
class SignalAt(Hook):
    """Sends this process, on one rank, a signal before an iteration."""

    def __init__(self, number, at, rank=0):
        self.number, self.at, self.rank = number, at, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at and get_rank() == self.rank:
            os.kill(os.getpid(), self.number)


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


def read_from_stuck_pipe(path):
    os.open(path, os.O_RDONLY)
