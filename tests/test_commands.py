"""Every command of README, CONTRIBUTING, docs/, config headers and tools runs, and the README's Python.

A command is run by the function that the user's command line reaches. What would take long is cut off behind the
reading and checking of arguments and config: the training of ``tools/train.py``, the evaluation of ``tools/test.py``,
the work of the other tools. A command or block that cannot be run here ends with, or begins with, the comment
``# not run: REASON``.
"""

import argparse
import ast
import contextlib
import importlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from paths import CONFIGS, ROOT, load_module
from PIL import Image

import mmmaskclip.cli.demo
import mmmaskclip.cli.test
import mmmaskclip.cli.train
from mmmaskclip.cli.shipped import find_config
from mmmaskclip.config_check.check import check_config
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import MODELS

PAGES = sorted([ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *(ROOT / 'docs').glob('*.md')])
HEADERS = sorted([*CONFIGS.rglob('*.py'), *(ROOT / 'tools').rglob('*.py'), *(ROOT / 'demo').glob('*.py')])
NOT_RUN = re.compile(r'#.*\bnot run: .{10,}')
SETTINGS = r'(?:[A-Z][A-Z_]*=\S+ )*'
TARGETS = '|'.join(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
TOOL = rf'python3? (?:tools|demo)/\S+\.py|tools/\S+\.sh|make {SETTINGS}(?:{TARGETS})|mmmaskclip(?:-\w+)?'
COMMAND = re.compile(rf'{SETTINGS}(?:{TOOL})(?: |$)')
# What documents write for a file of the user's.
CONFIG = 'configs/maskclip/vitxs16_scenes_v1.py'
PLACEHOLDERS = dict.fromkeys(['CONFIG', 'CONFIG_OF_CKPT', 'CONFIG_OF_THE_CHECKPOINT', 'A', 'B'], CONFIG)
PLACEHOLDERS['GPUS'] = '2'


# Lines that prepare a shell for the commands that follow.
PREPARES = re.compile(r'export \w+=\S+$|\. \S+/activate$|cd ')


class Piece(NamedTuple):
    """A command or a block of Python, and where it stands."""

    place: str
    text: str
    # Options are shown on the pages; headers say `train THIS CONFIG`, which other tests load.
    in_full: bool = True


class Parsed(Exception):
    """The arguments of a tool were read."""


def split_lines(text: str) -> list[str]:
    """Lines, of which those that end with a backslash go on."""
    return re.sub(r'\\+\n\s*', '', text).splitlines()


def read_page(path: Path) -> tuple[list[Piece], list[Piece]]:
    """Commands and Python blocks of a page, inline commands included."""
    commands, blocks, name = [], [], path.relative_to(ROOT)
    text = path.read_text(encoding='utf-8')
    for match in re.finditer(r'^```(\w*)\n(.*?)^```', text, re.M | re.S):
        place, content = f'{name}:{text.count(chr(10), 0, match.start()) + 2}', match[2]
        if match[1] == 'python':
            blocks.append(Piece(place, content))
        elif match[1] in ('bash', 'sh', 'console') or any(map(COMMAND.match, content.splitlines())):
            commands += [Piece(place, line.strip()) for line in split_lines(content) if line.strip()]
    prose = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    for match in re.finditer(r'`([^`]+)`', prose):
        command = ' '.join(match[1].split())
        if COMMAND.match(command):
            commands.append(Piece(f'{name}: `{command}`', command))
    return commands, blocks


def read_header(path: Path) -> list[Piece]:
    """Commands of a file's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    name = path.relative_to(ROOT)
    lines = [line.strip() for line in split_lines(docstring)]
    return [Piece(f'{name}: {line}', line, False) for line in lines if COMMAND.match(line)]


# By where they stand; of a folder of configs all together.
COMMANDS = {page.name: read_page(page)[0] for page in PAGES}
COMMANDS |= {folder: [] for folder in ('configs', 'tools', 'demo')}
for _path in HEADERS:
    COMMANDS[_path.relative_to(ROOT).parts[0]] += read_header(_path)
# Of the README, in seconds; blocks of the other pages show parts of configs.
BLOCKS = {'README.md': read_page(ROOT / 'README.md')[1]}


def words_of(command: str) -> list[str]:
    """The words of a command, with files for placeholders and without dots that stand for more of the same."""
    words: list[str] = []
    for word in shlex.split(command, comments=True):
        if word == '...':
            words += ['CHECKPOINT', 'CHECKPOINT'] if words[-1].startswith('--') else []
        else:
            words.append(PLACEHOLDERS.get(word, word))
            if words[-1].endswith('/NAME.py'):
                words[-1] = str(min((ROOT / word).parent.glob('*.py')).relative_to(ROOT))
    while re.fullmatch(r'[A-Z][A-Z_]*=\S+', words[0]):
        del words[0]
    return words


@pytest.fixture(scope='module')
def only_read():
    """Trainings and evaluations end where they would begin, and other tools once they have read their arguments."""
    parse = argparse.ArgumentParser.parse_args

    def read(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise Parsed

    def stop(patch):
        patch.setattr(argparse.ArgumentParser, 'parse_args', read)

    register_all_modules()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr('mmmaskclip.config_check.paths.check_paths', lambda *_: None)
        patch.setattr('mmmaskclip.startup.processes.setup_processes', lambda *_: None)
        patch.setattr('mmmaskclip.startup.processes.leave_processes', lambda *_: None)
        patch.setattr(mmmaskclip.cli.train, 'train', lambda *_: None)
        patch.setattr(mmmaskclip.cli.test, 'evaluate', lambda *_: {'metric': 1.0})
        yield stop


@pytest.fixture(scope='module')
def many_gpus(tmp_path_factory):
    """A ``python`` that claims 64 GPUs and prints what it would be called with."""
    python = tmp_path_factory.mktemp('bin') / 'python'
    python.write_text('#!/bin/sh\ncase "$*" in *launch_facts*) echo 64 64 29500;; *) echo "$@";; esac\n')
    python.chmod(0o755)
    return {'PYTHON': str(python), 'PATH': '/usr/bin:/bin', 'NODE_RANK': '0', 'MASTER_ADDR': 'localhost'}


def run(words: list[str], in_full: bool, stop, many_gpus: dict[str, str]) -> None:
    """Run a command up to where it would take long."""
    tool, *arguments = words[1:] if words[0].startswith('python') else words
    if tool == 'mmmaskclip':
        assert not arguments or list((ROOT / 'tools').rglob(f'{arguments[0]}.py'))
    elif tool == 'make':
        subprocess.run(['make', '-n', *arguments], cwd=ROOT, check=True, capture_output=True)
    elif tool.startswith('tools/slurm') or not arguments:
        # srun is not here; what it would start is dist_train.sh's or dist_test.sh's. Prose names tools by their files.
        assert not tool.startswith('tools/') or (ROOT / tool).is_file()
    elif tool.endswith('.sh'):
        printed = subprocess.run(
            ['sh', tool, *arguments], cwd=ROOT, env=many_gpus, check=True, capture_output=True, text=True
        ).stdout.split()
        start = printed.index(next(word for word in printed if word in ('tools/train.py', 'tools/test.py')))
        run(printed[start:-2], in_full, stop, many_gpus)
    elif tool in ('tools/train.py', 'tools/test.py', 'mmmaskclip-train', 'mmmaskclip-test'):
        module = mmmaskclip.cli.train if 'train' in tool else mmmaskclip.cli.test
        # Suites have dozens of sets; like the configs of headers they are loaded in tests of their own.
        if in_full and not any('suite_' in word for word in arguments):
            module.main(arguments)
        else:
            assert Path(find_config(module.parse_args(arguments).config)).is_file()
    elif tool in ('tools/demo.py', 'mmmaskclip-demo'):
        mmmaskclip.cli.demo.parse_args(arguments)
    else:
        read_arguments(tool, arguments, stop)


def read_arguments(tool: str, arguments: list[str], stop) -> None:
    """Let a tool read its arguments, and look whether it would find the configs among them."""
    # bench_step.py takes CONFIG+compiled.
    configs = [word.removesuffix('+compiled') for word in arguments if word.startswith('configs/')]
    missing = [config for config in configs if not (ROOT / config).exists()]
    assert not missing, f'no such config: {missing}'
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        patch.setattr(sys, 'argv', [tool, *arguments])
        with pytest.raises(Parsed):
            load_module(tool).main()


def test_there_are_commands():
    assert sum(map(len, COMMANDS.values())) > 100


@pytest.mark.parametrize('group', [name for name, commands in COMMANDS.items() if commands])
def test_every_command_is_understood_or_says_why_it_is_not_run(only_read, many_gpus, group):
    faults = []
    for place, text, in_full in COMMANDS[group]:
        if NOT_RUN.search(text) or PREPARES.match(text):
            continue
        output = io.StringIO()
        try:
            assert COMMAND.match(text), 'this test knows no such command'
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                run(words_of(text), in_full, only_read, many_gpus)
        except (Exception, SystemExit) as error:
            faults.append(f'{place}\n    {text}\n    {type(error).__name__}: {error} {output.getvalue()[-300:]}')
    assert not faults, f'{len(faults)} commands; mend them or write "# not run: REASON" behind:\n' + '\n'.join(faults)


@pytest.fixture(scope='module')
def user_folder(tmp_path_factory):
    """A working directory with the configs, some photographs and random weights, as documents take them for granted."""
    register_all_modules()
    folder = tmp_path_factory.mktemp('user')
    (folder / 'configs').symlink_to(CONFIGS)
    for name in ('a.jpg', 'b.jpg', 'photo.jpg'):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    torch.save({'state_dict': MODELS.build(Config.fromfile(ROOT / CONFIG).model).state_dict()}, folder / 'weights.pth')
    return folder


def checked_as_config(text: str, folder: Path) -> None:
    """Check settings as a config on top of the one they name, or of the paper's."""
    base = re.search(r"^_base_ = '(.*)'", text, re.M)
    if base:
        path = next(iter(CONFIGS.rglob(base[1].removeprefix('../').removeprefix('configs/'))))
        text = text.replace(base[0], f"_base_ = '{path}'")
    else:
        text = f"_base_ = '{CONFIGS}/maskclip/vitb16_laion20m_v1.py'\n{text}"
    (folder / 'settings.py').write_text(text)
    check_config(Config.fromfile(folder / 'settings.py'))


@pytest.mark.parametrize('page', BLOCKS)
def test_every_python_block_runs_or_says_why_not(page, user_folder, monkeypatch, only_read):
    """Blocks of one page share their variables, and may write modules; large weights are replaced by small ones."""
    monkeypatch.chdir(user_folder)
    monkeypatch.syspath_prepend(str(user_folder))
    names: dict = {'__name__': 'a_page'}
    for place, text in ((piece.place, piece.text) for piece in BLOCKS[page]):
        if NOT_RUN.match(text):
            continue
        text = re.sub(r"'configs/(?:maskclip|pretrained)/\w+\.py'", repr(CONFIG), text)
        text = re.sub(r"'[^'\n]*\.(?:pth|pt|safetensors)'|'PATH'", "'weights.pth'", text)
        top = ast.parse(text).body
        settings = [node.targets[0] for node in top if isinstance(node, ast.Assign)]
        try:
            if len(settings) == len(top) and any(getattr(node, 'id', '') in KEYS for node in settings):
                checked_as_config(text, user_folder)
            elif module := re.match(r'# (\w+)\.py\n', text):
                (user_folder / f'{module[1]}.py').write_text(text)
                importlib.import_module(module[1])
            else:
                exec(compile(text, place, 'exec'), names)
        except Exception as error:
            error.add_note(f'in the Python block at {place}; mend it or begin it with "# not run: REASON"')
            raise


KEYS = {'_base_', 'model', 'train_dataloader', 'val_dataloader', 'optim_wrapper', 'train_cfg', 'param_scheduler'}


def test_every_link_between_the_pages_leads_somewhere():
    dead = []
    for page in PAGES:
        text = re.sub(r'^```.*?^```', '', page.read_text(encoding='utf-8'), flags=re.M | re.S)
        for target in re.findall(r'\]\(([^)\s]+)\)', text):
            file, _, anchor = target.partition('#')
            if re.match(r'[a-z]+:', target):
                continue
            path = (page.parent / file) if file else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                dead.append(f'{page.relative_to(ROOT)}: {target}')
    assert not dead


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r'^#+ (.*)', page.read_text(encoding='utf-8'), re.M)
    return {re.sub(r'[^\w -]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}
