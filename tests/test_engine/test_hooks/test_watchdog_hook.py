"""Runs that stop or lose a process end in bounded time and say who waited for what."""

import faulthandler
import io
import os
import signal
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image
from trainings import train_together

from mmmaskclip.engine import WatchdogHook

LIMIT = 4
RUN = 'train_dataloader = dict(_delete_=True, batch_size=1, num_workers={workers}, dataset={dataset}, {rest})\n'
MAP_STYLE = "sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='mmmaskclip.tiny_collate')"
SHARDS = "collate_fn=dict(type='mmmaskclip.collate_four_pixels')"
HOOKS = f'custom_hooks = {{hooks}}\ndefault_hooks = dict(watchdog=dict(limit={LIMIT}))'
PAIRS = {'type': 'TinyPairs'}


def options(dataset=PAIRS, workers=0, hooks=(), rest=MAP_STYLE):
    return (RUN + HOOKS).format(workers=workers, dataset=dataset, hooks=list(hooks), rest=rest)


def stopping_shard(folder):
    """A shard that can be read as a whole once, by the check before the first step, and then stops in the middle."""
    path = folder / '0.tar'
    with tarfile.open(path, 'w') as tar:
        for number in range(16):
            image, buffer = np.random.default_rng(number).integers(0, 255, (9, 9, 3), dtype=np.uint8), io.BytesIO()
            Image.fromarray(image).save(buffer, 'PNG')
            for extension, content in (('png', buffer.getvalue()), ('txt', b'noise')):
                member = tarfile.TarInfo(f'{number}.{extension}')
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    half = path.stat().st_size // 2
    url = f'pipe:mkdir {folder}/seen 2>&- && exec cat {path}; head -c {half} {path}; exec sleep 1000 # /0.tar'
    views = {'image': [{'type': 'torchvision/RandomResizedCrop', 'size': 4}]}
    return {'type': 'ImageTextShards', 'urls': url, 'num_samples': 16, 'views': views, 'shuffle_buffer': 1}


@pytest.fixture(scope='module')
def ended(tmp_path_factory):
    """Runs with a fault each."""
    parent = tmp_path_factory.mktemp('runs')

    def faulty(fault, rank=0):
        folder = parent / f'{fault}{len(list(parent.iterdir()))}'
        folder.mkdir()
        os.mkfifo(folder / 'pipe')
        return {'type': 'FaultyPairs', 'fault': fault, 'folder': str(folder), 'rank': rank}

    kill = {'type': 'SignalAt', 'number': int(signal.SIGKILL), 'at': 4, 'rank': 1}
    return train_together(
        parent,
        stuck_0=(options(faulty('pipe')), 1),
        stuck_2=(options(faulty('pipe'), 2), 1),
        shards=(options(stopping_shard(parent), 2, rest=SHARDS), 1),
        killed_worker=(options(faulty('kill'), 2), 1),
        killed_rank=(options(hooks=[kill]), 2),
        stopped_rank=(options(faulty('pipe', rank=1)), 2),
    )


@pytest.mark.parametrize(
    ('run', 'where', 'iteration'),
    [
        ('stuck_0', 'read_from_stuck_pipe', 10),
        ('stuck_2', 'read_from_stuck_pipe', 10),
        ('shards', 'stream_samples', 0),
    ],
)
def test_a_stuck_reader_ends_the_run_with_the_stacks(ended, run, where, iteration):
    folder, (code,), (error,) = ended[run]
    assert code == 76, error
    assert 'Hang: rank 0 of 1 waited' in error
    assert f's for the batch of iteration {iteration or ""}' in error
    assert f'(its data loader); the limit is {LIMIT} s' in error
    stacks = (folder / 'hang_rank0.txt').read_text()
    assert f'in {where}' in stacks
    # With workers the pipe is in one of theirs.
    assert ('--- child process' in stacks.partition(f'in {where}')[0]) == (run != 'stuck_0')


def test_a_killed_worker_names_the_rank(ended):
    _, (code,), (error,) = ended['killed_worker']
    assert code == 1
    # The second where it died while a batch was on its way from it.
    assert 'is killed by signal: Killed' in error or 'A worker of the data loader is gone' in error
    assert 'error: rank 0 of 1 failed during ' in error


def test_a_killed_rank_ends_the_other_which_names_it(ended):
    _, codes, errors = ended['killed_rank']
    assert codes[1] == -signal.SIGKILL
    assert codes[0] not in (0, 75)
    assert 'error: rank 0 of 2 failed during the training step of iteration 5' in errors[0], errors[0]
    assert 'Rank 1: dead or stopped' in errors[0]


def test_a_stopped_rank_is_named_by_the_one_that_waits_for_it(ended):
    _, codes, errors = ended['stopped_rank']
    assert codes[1] == 76
    assert codes[0] not in (0, 75)
    assert 'Hang: rank 1 of 2 waited' in errors[1]
    assert 'Rank 0: alive, waits' in errors[1]


def test_the_watchdog_ends_with_the_run_also_when_an_error_ends_it(tiny_runner, tmp_path):
    runner = tiny_runner(**{'train_cfg.max_epochs': 1})
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, WatchdogHook)]
    excepthook = sys.excepthook
    stacks = tmp_path / 'run/hang_rank0.txt'
    stacks.touch()  # as a worker does
    runner.train()
    assert not stacks.exists()
    assert not hook._watchdog._thread.is_alive()
    assert sys.excepthook is excepthook

    broken = tiny_runner(**{'train_dataloader.dataset.error': 'nothing there'})
    (hook,) = [hook for hook in broken.hooks if isinstance(hook, WatchdogHook)]
    with pytest.raises(RuntimeError, match='nothing there'):
        broken.train()
    hook._watchdog._thread.join(30)
    assert not hook._watchdog._thread.is_alive()
    sys.excepthook = excepthook


def test_a_timer_of_others_is_left_alone(tiny_runner, monkeypatch):
    calls = []
    monkeypatch.setattr(faulthandler, 'cancel_dump_traceback_later', lambda: calls.append('cancel'))
    monkeypatch.setattr(faulthandler, 'dump_traceback_later', lambda *args, **kwargs: calls.append('arm'))
    tiny_runner(**{'train_cfg.max_epochs': 1, 'default_hooks.watchdog.limit': 1e6}).train()
    # A busy machine trains for longer than a tick of the watchdog, which then arms the timer and may cancel it.
    assert calls[:1] != ['cancel']
