"""The evidence tool with stand-ins for its trainings, which compare_methods' own tests run."""

import json
import subprocess
import sys
import tarfile

import pytest
from paths import load_module
from PIL import Image

from mmmaskclip.analysis.evidence_configs import METHODS


@pytest.fixture
def tool(monkeypatch):
    module = load_module('tools/analysis_tools/gpu_evidence.py')
    monkeypatch.setattr(module, '_EVERY_SECONDS', 0.01)
    monkeypatch.setattr(module, '_GRACE_SECONDS', 0.5)
    monkeypatch.setattr(module, '_NUM_SCENES', 20)
    monkeypatch.setattr(module, '_NUM_HELD_OUT', 20)
    # One core: no pool of processes is started.
    monkeypatch.setattr(module.os, 'sched_getaffinity', lambda _: {0})
    yield module
    del sys.modules['gpu_evidence']


def process(seconds):
    return subprocess.Popen(['sleep', str(seconds)])


@pytest.fixture
def run(tool, tmp_path, monkeypatch):
    """Runs the tool with comparisons that have finished some seeds and take some seconds."""

    def run(*arguments, finished=(0,), seconds=0.0):
        begun = {}

        def start(args, configs, jobs):
            begun.update(configs=configs, jobs=jobs)
            for name, paths in configs.items():
                metrics = {'classification/top1': dict(mean=30.0, spread=None)}
                entry = dict(seeds=list(finished), epochs=2, minutes=1.0, step_time=0.1, runs={}, metrics=metrics)
                folder = args.work / 'runs' / name
                folder.mkdir(parents=True, exist_ok=True)
                content = dict(methods={f'{name}/{path.stem}': entry for path in paths}, failed={})
                content['failed'] = {f'{name}/silc seed 1': 'exit status 1: RuntimeError'} if 1 not in finished else {}
                (folder / 'results.json').write_text(json.dumps(content))
                Image.new('RGB', (4, 4)).save(folder / 'figure.png')
            return {name: process(seconds) for name in configs}

        monkeypatch.setattr(tool, 'start_comparisons', start)
        folders = ['--out', str(tmp_path / 'out'), '--work', str(tmp_path / 'work'), '--tower', 'tiny']
        return tool.main([*folders, *arguments]), begun

    return run


def test_four_files_at_most_come_out(run, tmp_path):
    shards = tmp_path / 'flickr8k'
    shards.mkdir()
    (shards / 'train-00000.tar').touch()
    code, begun = run('--flickr8k', str(shards), '--seeds', '0', '--jobs', '4')
    assert code == 0
    assert begun['jobs'] == 2
    assert {name: [path.stem for path in paths] for name, paths in begun['configs'].items()} == {
        'scenes': list(METHODS),
        'flickr8k': list(METHODS),
    }
    names = ['evidence.json', 'evidence.md', 'flickr8k.png', 'scenes.png']
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == names
    assert '## flickr8k' in (tmp_path / 'out/evidence.md').read_text()
    splits = {path.name.partition('-')[0] for path in (tmp_path / 'work').glob('scenes-1/*.tar')}
    assert splits == {'train', 'val', 'single', 'known'}


def test_what_is_missing_is_listed_with_its_reason(run, tmp_path):
    code, _ = run('--seeds', '0', '1')
    assert code == 1
    missing = json.loads((tmp_path / 'out/evidence.json').read_text())['missing']
    assert 'scenes: silc, seed 1: exit status 1: RuntimeError' in missing
    assert 'scenes: clip, seed 1: the time was over' in missing


def test_at_the_end_of_the_time_runs_are_ended_and_results_written(run, tmp_path, capsys):
    code, _ = run('--seeds', '0', '1', '--minutes', '0.012', seconds=60)
    assert code == 1
    assert '0.012 minutes are over' in capsys.readouterr().out
    assert 'the time was over' in (tmp_path / 'out/evidence.md').read_text()


def test_the_command_of_a_comparison(tool, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(tool.subprocess, 'Popen', lambda command, **_: commands.append(command))
    args = tool.parse_args(['--out', 'o', '--work', str(tmp_path), '--seeds', '3', '5', '--epochs', '4', '7'])
    tool.start_comparisons(args, {'scenes': [tmp_path / 'clip.py'], 'flickr8k': [tmp_path / 'b.py']}, 2)
    scenes, flickr = (' '.join(command) for command in commands)
    assert scenes.endswith(f'clip.py --seeds 3 5 --epochs 4 --jobs 2 --out {tmp_path}/runs/scenes')
    assert '--epochs 7' in flickr


def test_cifar_is_unpacked_once(tool, tmp_path):
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.jpg')
    for split in ('train', 'test'):
        with tarfile.open(tmp_path / f'{split}.tar', 'w') as tar:
            tar.add(tmp_path / 'a.jpg', f'{split}/cat/a.jpg')
    args = tool.parse_args(['--out', 'o', '--work', str(tmp_path / 'w'), '--cifar10', str(tmp_path)])
    (tmp_path / 'w/scenes-1').mkdir(parents=True)
    (tmp_path / 'w/scenes-1/finished').touch()
    assert tool.prepare_data(args, 1)['cifar10'] == str(tmp_path / 'w')
    assert (tmp_path / 'w/cifar10_folder/test/cat/a.jpg').is_file()


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--share', '2'], '--share 2.0: give a part'),
        (['--minutes', '0'], 'must be positive'),
        (['--flickr8k', '/nowhere'], 'there is no train-*.tar'),
        (['--cifar10', '/nowhere'], 'there is no train.tar'),
    ],
)
def test_arguments_that_make_no_sense(tool, arguments, sentence, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['--out', 'o', '--work', 'w', *arguments])
    assert sentence in capsys.readouterr().err
