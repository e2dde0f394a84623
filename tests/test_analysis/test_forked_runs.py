"""Runs that are forks: their command line, log, exit status and lock."""

import fcntl
import importlib.util
import os
import signal

import pytest

from mmmaskclip.analysis import forked_runs

_MODULE = """
import sys
import time
from pathlib import Path

def command():
    print('begun', *sys.argv[1:], flush=True)
    while not Path(sys.argv[1]).exists():
        time.sleep(0.01)
    raise SystemExit(3)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Returns a function that starts a run, which ends with status 3 when the file ``end`` is there."""
    (tmp_path / 'a_short_run.py').write_text(_MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    # Nothing of it is needed here, and it takes many seconds.
    monkeypatch.setattr(forked_runs, '_PRELOADED', [])

    def start():
        lock = os.open(tmp_path / 'lock', os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = forked_runs.ForkedRun('a_short_run', [str(tmp_path / 'end'), 'x'], tmp_path / 'log', lock)
        os.close(lock)
        return run

    return start


def is_free(path):
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_run_logs_holds_its_lock_and_gives_its_status(start, tmp_path):
    (tmp_path / 'log').write_text('before\n')
    run = start()
    assert run.poll() is None
    assert not is_free(tmp_path / 'lock')
    (tmp_path / 'end').touch()
    assert run.wait() == run.poll() == 3
    assert is_free(tmp_path / 'lock')
    assert (tmp_path / 'log').read_text() == f'before\nbegun {tmp_path}/end x\n'


def test_a_run_can_be_ended(start, tmp_path):
    run = start()
    run.terminate()
    assert run.wait() == -signal.SIGTERM
    assert is_free(tmp_path / 'lock')


def test_what_is_imported_early_exists():
    missing = [name for name in forked_runs._PRELOADED if importlib.util.find_spec(name) is None]
    assert missing == []
