import os
import signal

import pytest
from torch.utils.data import DataLoader, Dataset

from mmmaskclip.evaluation.frozen_features import build_train_loader
from mmmaskclip.startup import workers
from mmmaskclip.startup.workers import call_in_workers, outlive_signals


@pytest.fixture
def handlers(monkeypatch):
    """The handlers that are set."""
    handlers = {}
    monkeypatch.setattr(workers.signal, 'signal', handlers.__setitem__)
    return handlers


def test_workers_outlive_signals_to_the_whole_group(handlers):
    outlive_signals()
    assert handlers.keys() == {signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2}
    assert signal.SIG_DFL not in handlers.values()


def test_the_loaders_own_function_is_called_after():
    called = []
    loader = DataLoader([1], worker_init_fn=lambda worker: called.append(worker))
    call_in_workers(loader, lambda: called.append('ours'))
    loader.worker_init_fn(3)
    assert called == ['ours', 3]


class Patient(Dataset):
    """Its worker gets the SIGTERM of its run and is idle from then on."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 0:
            os.kill(os.getpid(), signal.SIGTERM)
        return index


def test_a_worker_that_ends_in_a_long_step_does_not_end_the_step(monkeypatch):
    monkeypatch.setattr(workers, '_SECONDS_TO_SAVE', 1)
    loader = DataLoader(Patient(), num_workers=1, multiprocessing_context='fork')
    call_in_workers(loader, outlive_signals)
    batches = iter(loader)
    assert [next(batches).item() for _ in range(2)] == [0, 1]
    (worker,) = batches._workers
    worker.join(20)  # while the step computes; torch's handler of SIGCHLD would raise here
    assert worker.exitcode == 0


class One(Dataset):
    metainfo: dict = {}

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {}


def test_workers_of_probes_do_so_too(handlers):
    loader = build_train_loader(dict(dataset=One(), batch_size=1, num_workers=1))
    loader.worker_init_fn(0)
    assert signal.SIGTERM in handlers
