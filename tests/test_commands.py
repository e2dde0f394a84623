"""Every command of CONTRIBUTING, of the headers of configs and tools is understood; links between pages lead somewhere.

A command is read by the function that the user's command line reaches, and cut off where it would take long: the
training of ``tools/train.py``, the evaluation of ``tools/test.py``, the work of the other tools. The commands of README
and docs do their work in ``test_commands_of_pages.py``.
"""

import argparse
import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import COMMAND, HEADERS, PAGES, read_header, read_page, settings_and_words
from paths import ROOT, load_module

import mmmaskclip.cli.demo
import mmmaskclip.cli.test
import mmmaskclip.cli.train
from mmmaskclip.cli.shipped import find_config

# What headers write for a file of the user's.
PLACEHOLDERS = dict.fromkeys(['CONFIG', 'OWN_CONFIG'], 'configs/maskclip/vitxs16_scenes_v1.py')


class Parsed(Exception):
    """The arguments of a tool were read."""


# By where they stand; of a folder of configs all together.
COMMANDS = {'CONTRIBUTING.md': read_page(ROOT / 'CONTRIBUTING.md')[0], 'configs': [], 'tools': [], 'demo': []}
for _path in HEADERS:
    COMMANDS[_path.relative_to(ROOT).parts[0]] += read_header(_path)


def run(words: list[str]) -> None:
    """Run a command up to where it would take long."""
    tool, *arguments = words[1:] if words[0].startswith('python') else words
    if tool == 'make':
        subprocess.run(['make', '-n', *arguments], cwd=ROOT, check=True, capture_output=True)
    elif tool.endswith('.sh'):
        # The scripts have tests of their own; here the config, and as many processes as are said.
        config = next(word for word in arguments if word.endswith('.py'))
        assert (ROOT / tool).is_file()
        assert (ROOT / config).is_file(), config
    elif tool in ('tools/train.py', 'tools/test.py'):
        module = mmmaskclip.cli.train if 'train' in tool else mmmaskclip.cli.test
        assert Path(ROOT, find_config(module.parse_args(arguments).config)).is_file()
    elif tool == 'tools/demo.py':
        mmmaskclip.cli.demo.parse_args(arguments)
    else:
        read_arguments(tool, arguments)


def read_arguments(tool: str, arguments: list[str]) -> None:
    """Let a tool read its arguments, and look whether it would find the configs among them."""
    # bench_step.py takes CONFIG+compiled.
    configs = [word.removesuffix('+compiled') for word in arguments if word.startswith('configs/')]
    missing = [config for config in configs if not (ROOT / config).exists()]
    assert not missing, f'no such config: {missing}'
    parse = argparse.ArgumentParser.parse_args

    def read(parser, args=None, namespace=None):
        parse(parser, args, namespace)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', read)
        patch.setattr(sys, 'argv', [tool, *arguments])
        with pytest.raises(Parsed):
            load_module(tool).main()


def test_there_are_commands():
    assert sum(map(len, COMMANDS.values())) > 100


@pytest.mark.parametrize('group', [name for name, commands in COMMANDS.items() if commands])
def test_every_command_is_understood_or_says_why_it_is_not_run(group):
    faults = []
    for place, text, not_run, _ in COMMANDS[group]:
        if not_run:
            continue
        output = io.StringIO()
        try:
            assert COMMAND.match(text), 'this test knows no such command'
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                run(settings_and_words(text, PLACEHOLDERS)[1])
        except (Exception, SystemExit) as error:
            faults.append(f'{place}\n    {text}\n    {type(error).__name__}: {error} {output.getvalue()[-300:]}')
    assert not faults, f'{len(faults)} commands; mend them or write "# not run: REASON" behind:\n' + '\n'.join(faults)


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
