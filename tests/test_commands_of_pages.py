"""Every command of README and docs does its work on what is shipped, small, or says why it is not run.

Shipped configs keep all their parts and widths, with one layer per tower, one epoch and a handful of images
(``user_folder.py``). What takes long even so has a test of its own, to which a row of ELSEWHERE points.
"""

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torchvision
from mmengine.config import Config
from pages import COMMAND, PAGES, PREPARES, read_page, settings_and_words
from paths import ROOT, load_module
from user_folder import CONFIG, PLACEHOLDERS, furnish, make_small, write_weights

import mmmaskclip.cli.demo
import mmmaskclip.cli.overview
import mmmaskclip.cli.test
import mmmaskclip.cli.train
from mmmaskclip.engine.registration import register_all_modules

ELSEWHERE = {
    'demo/quickstart.py': 'test_demo/test_quickstart.py::test_small_run_gives_table_and_picture',
    'make quickstart': 'test_demo/test_quickstart.py::test_small_run_gives_table_and_picture',
    'tools/analysis_tools/compare_methods.py': (
        'test_tools/test_compare_methods.py::test_shipped_configs_as_the_readme_says'
    ),
    'tools/analysis_tools/gpu_evidence.py': 'test_tools/test_gpu_evidence.py::test_four_files_at_most_come_out',
    'tools/analysis_tools/bench_host.py': (
        'test_analysis/test_host_time.py::test_every_hook_of_a_config_is_timed_at_its_start_and_later'
    ),
    # In OpenCLIP's own environment.
    '--against-python': 'test_tools/test_bench_loader.py::test_the_last_line_of_the_other_environment_is_read',
    # Of ViT-B/16; those of ViT-Ti/16 are run here.
    'bench_step.py configs/clip/vitb16_laion20m.py': 'test_tools/test_bench_step.py::test_our_config_against_open_clip',
    'merge_lora.py work_dirs': ('test_models/test_backbones/test_lora.py::test_tool_writes_a_model_without_adapters'),
    'tools/analysis_tools/count_memory.py': 'test_analysis/test_memory.py::test_tool_prints_a_row_for_each_model',
    'plot_curves.py clip_seed0,': 'test_tools/test_plot_curves.py::test_seeds_of_one_run_are_a_mean_in_a_band',
    'tools/analysis_tools/soak.py': 'test_tools/test_soak.py::test_a_short_run_is_flat',
    'configs/upernet/': 'test_downstream/test_upernet.py::test_trains_and_tests_and_draws',
    'configs/mask_rcnn/': 'test_downstream/test_mask_rcnn.py::test_trains_from_a_pretraining_checkpoint_and_evaluates',
    'configs/probes/': 'test_downstream/test_classification.py::test_probes_on_real_images',
}
# Less of the same; the last of two equal options counts.
SHORTER = {
    'make_scenes': ['--num-train', '4', '--num-held-out', '8', '--shard-size', '8'],
    'bench_loader': ['--workers', '0', '--seconds', '0.1', '--batch-size', '2'],
    'bench_step': ['--steps', '1', '--warm-up', '0', '--batch-size', '2'],
    'fuzz': ['--cases', '1'],
    'mix_weights': ['--alpha', '0.5'],
    'make_shards': ['--workers', '1'],
    'compare_dense': ['--read-outs', 'naclip', '--checkpoints', 'none'],
    'demo': ['--port', '0'],
}
MAINS = {
    'demo': mmmaskclip.cli.demo,
    'mmmaskclip': mmmaskclip.cli.overview,
    'test': mmmaskclip.cli.test,
    'train': mmmaskclip.cli.train,
}
COMMANDS = {page.name: read_page(page)[0] for page in PAGES}


@pytest.fixture(scope='module')
def home(tmp_path_factory):
    """The user's folder, in which shipped configs are read small."""
    register_all_modules()
    folder = tmp_path_factory.mktemp('home')
    furnish(folder)
    read = Config.fromfile

    def read_small(*args, **kwargs):
        cfg = read(*args, **kwargs)
        make_small(cfg)
        return cfg

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(Config, 'fromfile', staticmethod(read_small))
        # torchvision knows the checksums of the real files.
        patch.setattr(torchvision.datasets.cifar, 'check_integrity', lambda *_args, **_kwargs: True)
        for name, value in (
            ('DATA', 'data'),
            ('SCENES', 'data/scenes'),
            ('EVAL', 'data/zero_shot'),
            ('PAIRS', 'FOLDER'),
        ):
            patch.setenv(f'MMMASKCLIP_{name}', value)
        load_module('tools/dataset_converters/make_scenes.py').main(['data/scenes', *SHORTER['make_scenes']])
        yield folder


@pytest.fixture(scope='module')
def many_gpus(tmp_path_factory):
    """A ``python`` that claims 64 GPUs and prints what it would be called with."""
    python = tmp_path_factory.mktemp('bin') / 'python'
    python.write_text('#!/bin/sh\ncase "$*" in *launch_facts*) echo 64 64 29500;; *) echo "$@";; esac\n')
    python.chmod(0o755)
    return {'PYTHON': str(python), 'PATH': '/usr/bin:/bin'}


class Shell:
    """Runs commands in this process, each once."""

    def __init__(self, many_gpus):
        self.many_gpus = many_gpus
        self.done = set()

    def run(self, command: str) -> None:
        settings, words = settings_and_words(command, PLACEHOLDERS)
        if (key := (*settings.items(), *words)) in self.done:
            return
        self.done.add(key)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in settings.items():
                patch.setenv(name, value)
            self.run_words(words, settings)

    def run_words(self, words: list[str], settings: dict[str, str]) -> None:
        tool, *arguments = words[1:] if words[0].startswith('python') else words
        if elsewhere := [test for part, test in ELSEWHERE.items() if part in ' '.join(words)]:
            file, name = elsewhere[0].split('::')
            assert f'def {name}(' in (ROOT / 'tests' / file).read_text()
        elif tool == 'make':
            subprocess.run(['make', '-n', *arguments], cwd=ROOT, check=True, capture_output=True)
        elif tool.startswith('tools/') and not arguments:
            assert (ROOT / tool).is_file()  # a text that names it
        elif tool.endswith('.sh'):
            printed = subprocess.run(
                ['sh', tool, *arguments], cwd=ROOT, env=self.many_gpus | settings, check=True, capture_output=True,
                text=True,
            ).stdout.split()  # fmt: skip
            start = printed.index(next(word for word in printed if word in ('tools/train.py', 'tools/test.py')))
            self.run_words(['python', *printed[start:-2]], settings)  # without --launcher
        else:
            self.call(tool, with_weights(arguments))

    def call(self, tool: str, arguments: list[str]) -> None:
        name = Path(tool).stem.removeprefix('mmmaskclip-')
        module = MAINS.get(name) or load_module(tool)
        if name in ('train', 'test'):
            number = len(self.done)  # mmengine keeps one log and one hub for a name
            option = [f'experiment_name=run{number}']
            arguments = [*arguments, *(option if '--cfg-options' in arguments else ['--cfg-options', *option])]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', [tool, *arguments, *SHORTER.get(name, [])])
            patch.setattr(subprocess, 'run', run_here)
            patch.setattr(mmmaskclip.cli.demo.DemoServer, 'serve_forever', lambda *_: None)
            try:
                module.main()
            except SystemExit as stopped:
                if stopped.code:
                    raise


def run_here(command, **_):
    """In place of ``subprocess.run``: ``python -m mmmaskclip.cli.test ...`` in this process."""
    module, arguments = command[2], [str(word) for word in command[3:]]
    assert module == 'mmmaskclip.cli.test', command
    mmmaskclip.cli.test.main(arguments)
    return subprocess.CompletedProcess(command, 0)


def with_weights(arguments: list[str]) -> list[str]:
    """Write the files of weights that a command reads, of the models that it says, and give its arguments."""
    configs = [word for word in arguments if re.match(r'configs/\S+\.py$', word)]
    several = list(configs) if '--config' in arguments else []
    after = [arguments[i + 1] for i, word in enumerate(arguments) if word in ('--model', '--config')]
    model = next((word for word in [*after, *configs] if word in configs), CONFIG)
    given = []
    for word in arguments:
        if word in ('A.json', 'B.json'):
            mmmaskclip.cli.test.main(['configs/zero_shot/cifar10_folder.py', 'none', '--model', CONFIG, '--out', word])
        key, equals, value = word.rpartition('=')
        if value in ('CHECKPOINT', 'WEIGHTS') or re.search(r'\.(pth|pt)$', value):
            config = several.pop(0) if several else model
            path = Path(f'{Path(config).parent.name}_{Path(config).stem}.pth') if value.isupper() else Path(value)
            if not path.exists():
                write_weights(path, config)
            value = str(path)
        given.append(f'{key}{equals}{value}')
    return given


@pytest.fixture(scope='module')
def shell(home, many_gpus):
    return Shell(many_gpus)


def test_there_are_commands_and_most_are_run():
    pieces = [piece for commands in COMMANDS.values() for piece in commands]
    assert len(pieces) > 60
    assert sum(piece.not_run for piece in pieces) < len(pieces) / 4


@pytest.mark.parametrize('page', [name for name, commands in COMMANDS.items() if commands])
def test_every_command_runs_or_says_why_not(shell, page):
    """In the order of the page, commands of blocks first, because later ones read what earlier ones have written."""
    faults = []
    for place, text, not_run, _ in sorted(COMMANDS[page], key=lambda piece: piece.inline):
        if not_run or PREPARES.match(text):
            continue
        output = io.StringIO()
        try:
            assert COMMAND.match(text), 'this test knows no such command'
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                shell.run(text)
        except (Exception, SystemExit) as error:
            faults.append(f'{place}\n    {text}\n    {type(error).__name__}: {error} {output.getvalue()[-600:]}')
    assert not faults, f'{len(faults)} commands; mend them or write "not run: REASON" there:\n' + '\n'.join(faults)
