import multiprocessing
import os
import pickle
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from paths import ROOT, TINY, load_module


@pytest.fixture
def soak(monkeypatch):
    monkeypatch.syspath_prepend(str(TINY))
    return load_module('tools/analysis_tools/soak.py')


def test_what_other_processes_hold_is_added_up(soak):
    alone = soak.read_all(1)
    assert alone.workers == alone.worker_files == 0
    context = multiprocessing.get_context('fork')
    workers = [context.Process(target=time.sleep, args=(60,), daemon=True) for _ in range(2)]
    try:
        for worker in workers:
            worker.start()
        reading = soak.read_all(2)
    finally:
        for worker in workers:
            worker.kill()
            worker.join()
    assert reading.workers == 2
    assert reading.worker_memory > 2
    assert reading.worker_threads == 2
    assert reading.worker_files >= 2 * 3
    assert str(reading.worker_files) in soak.readings_table([reading])


# Whatever other tests have started in this process would be counted, too.
RUN = """
import pickle, sys
from paths import load_module
readings = load_module('tools/analysis_tools/soak.py').main(sys.argv[2:])
with open(sys.argv[1], 'wb') as file:
    pickle.dump([tuple(vars(reading).items()) for reading in readings], file)
"""


def test_a_short_run_is_flat(tmp_path):
    options = [
        f'experiment_name={tmp_path.name}',
        'train_dataloader.dataset.size=50',
        'default_hooks.checkpoint.interval=50',
    ]
    arguments = [str(TINY / 'tiny.py'), '--steps', '100', '--work-dir', str(tmp_path), '--cfg-options', *options]
    environment = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(ROOT / 'tests'), str(TINY)])}
    command = [sys.executable, '-c', RUN, str(tmp_path / 'readings'), *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    readings = [SimpleNamespace(**dict(items)) for items in pickle.loads((tmp_path / 'readings').read_bytes())]
    assert [reading.step for reading in readings] == list(range(10, 101, 10))
    # The first readings include what is allocated once.
    first, last = readings[4], readings[-1]
    assert last.files <= first.files
    # The watchdog's first tick starts faulthandler's timer, a thread, before or after the first count.
    assert last.threads <= first.threads + 1
    assert last.memory - first.memory < 20
