import importlib
import importlib.util
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback

import pytest
import torch
from paths import CONFIGS, ROOT, TINY, TOOLS, load_module
from PIL import Image

from mmmaskclip.datasets.scenes.writer import SceneSplit, write_shards
from mmmaskclip.engine.registration import register_all_modules

TOOL = TOOLS / 'analysis_tools/compare_methods.py'


@pytest.fixture(scope='module')
def tool():
    module = load_module(TOOL)
    importlib.import_module('mmmaskclip.cli.test')
    register_all_modules()  # here and not in every fork
    yield module
    del sys.modules['compare_methods']


def run_module(module, arguments, log):
    sys.stdout = sys.stderr = open(log, 'a', buffering=1)  # noqa: SIM115 (until the process ends)
    try:
        importlib.import_module(module).main(arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
        code = 1
    # Not the interpreter's way out: it would wait for the tool's threads, of which this fork has only the memory.
    os._exit(code)


class Forked:
    """A process like subprocess's, but a fork, which has imported everything already."""

    def __init__(self, module, arguments, log):
        arguments = [str(argument) for argument in arguments]
        self.process = multiprocessing.get_context('fork').Process(target=run_module, args=(module, arguments, log))
        self.process.start()
        self.terminate = self.process.terminate

    def wait(self):
        self.process.join(120)
        self.process.kill()
        self.process.join()
        return self.process.exitcode

    def poll(self):
        return self.process.exitcode


@pytest.fixture
def compare(tool, monkeypatch, tmp_path):
    """Returns a function that runs the tool in this process with forked runs; ``calls`` are the modules it started."""
    monkeypatch.syspath_prepend(str(TINY))
    calls = []

    def start(self, module, *arguments, log):
        calls.append(module.rpartition('.')[2])
        return Forked(module, arguments, log)

    monkeypatch.setattr(tool.Processes, 'start', start)
    monkeypatch.setattr(tool, '_PROBE_SECONDS', 0.2)

    def run(*arguments):
        calls.clear()
        return tool.main([*map(str, arguments), '--out', str(tmp_path / 'out')])

    run.calls, run.out = calls, tmp_path / 'out'
    return run


@pytest.fixture
def config(tmp_path):
    """Returns a function that writes a config made from tests/tiny/tiny.py."""

    def write(name, text=''):
        path = tmp_path / 'configs' / f'{name}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        # One of tiny.py's sixteen samples is bad; a long run would stop.
        hooks = "custom_hooks = [dict(type='ModelStepHook'), dict(type='BadSamplesHook', max_share=1.0)]"
        path.write_text(f"_base_ = '{TINY}/tiny.py'\n{hooks}\n{text}\n")
        return path

    return write


def test_two_configs_and_two_seeds(compare, config, capsys):
    slow, fast = config('slow'), config('fast', 'optim_wrapper = dict(optimizer=dict(lr=0.1))')
    assert compare(slow, fast, '--seeds', 3, 5, '--epochs', 1, '--reference', fast, '--jobs', 2) == 0
    results = json.loads((compare.out / 'results.json').read_text())
    methods = results['methods']
    assert list(methods) == ['configs/slow', 'configs/fast']
    assert results['reference'] == 'configs/fast'
    assert methods['configs/slow']['fingerprint'] != methods['configs/fast']['fingerprint']
    sums = {name: [entry['runs'][seed]['metrics']['tiny/sum'] for seed in '35'] for name, entry in methods.items()}
    assert len({value for values in sums.values() for value in values}) == 4
    ours, base = (torch.tensor(sums[name], dtype=torch.float64) for name in methods)
    metric = methods['configs/slow']['metrics']['tiny/sum']
    assert metric['mean'] == pytest.approx(ours.mean().item())
    assert metric['spread'] == pytest.approx(ours.std().item())
    assert metric['difference'] == pytest.approx((ours - base).mean().item())
    assert methods['configs/slow']['runs']['3']['steps'] == 8
    table = (compare.out / 'table.md').read_text()
    assert f'| configs/slow | {ours.mean():.2f} ± {ours.std():.2f} | 7.00 ± 0.00 | 3, 5 | 1 |' in table
    assert 'configs/fast (reference)' in table
    assert table.splitlines()[0] in capsys.readouterr().out
    with Image.open(compare.out / 'figure.png') as image:
        assert image.format == 'PNG'

    # Everything is finished: nothing runs again, and the table is the same.
    assert compare(slow, fast, '--seeds', 3, 5, '--epochs', 1, '--reference', fast) == 0
    assert compare.calls == []
    assert (compare.out / 'table.md').read_text() == table
    # A third seed adds only itself.
    assert compare(slow, fast, '--seeds', 3, 5, 7, '--epochs', 1) == 0
    assert compare.calls == ['train', 'test'] * 2


def test_shipped_configs_as_the_readme_says(compare, tmp_path, monkeypatch, capsys):
    scenes = tmp_path / 'scenes'
    # Seven steps an epoch: the warm-up, a twelfth of the run, has one.
    splits = {'train': SceneSplit(448), 'val': SceneSplit(72, (1, 2)), 'single': SceneSplit(72, (1, 1))}
    write_shards(scenes / 'shards', splits, image_size=64, shard_size=72)
    monkeypatch.setenv('MMMASKCLIP_SCENES', str(scenes))
    assert compare(CONFIGS / 'maskclip/vitxs16_scenes_v1.py', '--seeds', 0, '--epochs', 2) == 0
    assert list(json.loads((compare.out / 'results.json').read_text())['failed']) == []
    assert 'Written: ' in capsys.readouterr().out
    with pytest.raises(ValueError, match=r'vitb16_cc3m\.py has no test_dataloader: only configs'):
        compare(CONFIGS / 'clip/vitb16_cc3m.py', '--seeds', 0, '--epochs', 2)


def test_what_was_begun_goes_on_from_its_checkpoint_with_the_same_result(compare, config):
    path, run = config('a'), compare.out / 'runs/configs/a/seed0'
    assert compare(path, '--seeds', 0) == 0
    before = json.loads((run / 'metrics.json').read_text())
    for name in ('metrics.json', 'iter_16.pth', 'last_checkpoint'):
        (run / name).unlink()
    assert compare(path, '--seeds', 0) == 0
    assert f'going on from {run}/iter_15.pth' in (run / 'train.log').read_text()
    after = json.loads((run / 'metrics.json').read_text())
    # The file of the checkpoint also holds times.
    assert before['record'].pop('weights') != after['record'].pop('weights')
    assert after == before


def test_a_run_that_fails_is_listed_and_tried_again(compare, config, tmp_path, capsys):
    good, bad = config('good'), config('bad', "train_dataloader = dict(dataset=dict(error='shard 7 is broken'))")
    assert compare(bad, good, '--seeds', 0, '--epochs', 1) == 1
    assert compare.calls == ['train', 'train', 'test']
    error = capsys.readouterr().err
    assert 'Failed: configs/bad seed 0: exit status 1: RuntimeError' in error
    assert 'shard 7 is broken' in error
    table = (compare.out / 'table.md').read_text()
    assert 'Failed: configs/bad seed 0' in table
    assert '| configs/good |' in table
    assert json.loads((compare.out / 'results.json').read_text())['methods']['configs/good']['runs']['0']['metrics']
    assert compare(bad, good, '--seeds', 0, '--epochs', 1) == 1
    assert compare.calls == ['train']


def test_wall_time_becomes_epochs_by_a_probe_of_each_method(compare, config):
    paths = [config('a'), config('b')]
    assert compare(*paths, '--seeds', 0, '--minutes', 0.001) == 0
    assert compare.calls == ['train', 'train', 'train', 'test', 'train', 'test']
    (probe,) = (compare.out / 'probes/configs/a').glob('*.json')
    measured = json.loads(probe.read_text())
    assert measured['steps_per_epoch'] == 8
    assert 1e-4 < measured['step_time'] < 1
    # The probe is kept, so the same command gives the same number of epochs on a busier machine.
    probe.write_text(json.dumps({'step_time': 0.0025, 'steps_per_epoch': 8}))
    assert compare(paths[0], '--seeds', 1, '--minutes', 0.001) == 0
    assert compare.calls == ['train', 'test']
    assert '| configs/a |' in (compare.out / 'table.md').read_text()
    assert json.loads((compare.out / 'results.json').read_text())['methods']['configs/a']['epochs'] == 3


def test_runs_of_other_settings_are_not_mixed(compare, config):
    assert compare(config('a'), '--seeds', 0, '--epochs', 1) == 0
    with pytest.raises(ValueError, match=r'seed0 holds a run of other settings .*max_epochs: 1 != 2'):
        compare(config('a'), '--seeds', 0, '--epochs', 2)
    config('a', 'optim_wrapper = dict(optimizer=dict(lr=0.5))')
    with pytest.raises(ValueError, match=r'optim_wrapper.optimizer.lr: 0.01 != 0.5'):
        compare(config('a', 'optim_wrapper = dict(optimizer=dict(lr=0.5))'), '--seeds', 0, '--epochs', 1)


def test_configs_must_be_evaluated_alike(compare, config):
    other = config('other', 'test_dataloader = dict(dataset=dict(size=9))')
    with pytest.raises(ValueError, match=r'other.py is not evaluated like .*test_dataloader.dataset.size: 7 != 9'):
        compare(config('a'), other)
    assert compare.calls == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['a.py', '--reference', 'b.py'], '--reference b.py is not among the configs: a.py'),
        (['a.py', '--seeds', '1', '1'], 'given twice'),
        (['a.py', '--minutes', '0'], '--minutes 0.0: must be positive'),
        (['a.py', '--minutes', '1', '--epochs', '1'], 'not allowed with'),
    ],
)
def test_arguments_that_make_no_sense(tool, arguments, message, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args([*arguments, '--out', 'x'])
    assert message in capsys.readouterr().err


def test_a_folder_in_use_is_left_alone(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, '_LOCK_PATIENCE', 0)
    descriptor = tool.lock_folder(tmp_path)
    with pytest.raises(tool.RunFailed, match='another process still works in'):
        tool.lock_folder(tmp_path)
    os.close(descriptor)
    os.close(tool.lock_folder(tmp_path))


def test_ended_from_outside_it_ends_its_runs_and_goes_on_later(compare, config):
    """With real processes: SIGTERM in the middle of a training, then the same command again."""
    path = config('a', 'default_hooks = dict(checkpoint=dict(interval=100))')
    arguments = [str(path), '--seeds', '0', '--epochs', '200']
    env = {**os.environ, 'PYTHONPATH': f'{ROOT}:{TINY}', 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen([sys.executable, TOOL, *arguments, '--out', compare.out], env=env, cwd=ROOT)
    run = compare.out / 'runs/configs/a/seed0'
    deadline = time.monotonic() + 120
    while not list(run.glob('iter_*.pth')):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 130
    # Nothing holds the folder's lock any more: the training has ended, too.
    subprocess.run(['flock', '--nonblock', str(run / 'lock'), 'true'], check=True, timeout=10)
    assert not (run / 'metrics.json').exists()
    assert not (run / 'iter_1600.pth').exists()
    assert compare(*arguments) == 0
    assert 'going on from' in (run / 'train.log').read_text()
    assert json.loads((compare.out / 'results.json').read_text())['methods']['configs/a']['runs']['0']['steps'] == 1600
