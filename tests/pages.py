"""Commands and Python blocks of the documents and of the headers of configs and tools, as users copy them.

One mechanism says of a command or a block that no test runs it: the words ``not run: REASON`` in its own comment, in
the comment ``<!-- not run: REASON -->`` on the line before its block, or, for a command within a text, in its
paragraph.
"""

import ast
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from paths import CONFIGS, ROOT

PAGES = sorted([ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')])
HEADERS = sorted([*CONFIGS.rglob('*.py'), *(ROOT / 'tools').rglob('*.py'), *(ROOT / 'demo').glob('*.py')])
SETTINGS = r'(?:[A-Z][A-Z_]*=\S+ )*'
TARGETS = '|'.join(re.findall(r'^([\w-]+):', (ROOT / 'Makefile').read_text(), re.M))
TOOL = rf'python3? (?:tools|demo)/\S+\.py|tools/\S+\.sh|make {SETTINGS}(?:{TARGETS})|mmmaskclip(?:-\w+)?|clip_benchmark'
COMMAND = re.compile(rf'{SETTINGS}(?:{TOOL})(?: |$)')
# Lines that prepare a shell for the commands that follow.
PREPARES = re.compile(r'export \w+=\S+$|\. \S+/activate$|cd ')
_NOT_RUN = re.compile(r'\bnot run: .{10,}')


class Piece(NamedTuple):
    """A command or a block of Python: where it stands, what it says, and whether it is said to be not run."""

    place: str
    text: str
    not_run: bool
    # A name of a command within a text, such as `make test`.
    inline: bool = False


def split_lines(text: str) -> list[str]:
    """Lines, of which those that end with a backslash go on."""
    return re.sub(r'\\+\n\s*', '', text).splitlines()


def read_page(path: Path) -> tuple[list[Piece], list[Piece]]:
    """Commands and Python blocks of a page, inline commands included."""
    commands, blocks, name = [], [], path.relative_to(ROOT)
    text = path.read_text(encoding='utf-8')
    for match in re.finditer(r'(?:^<!--(.*)-->\n)?^```(\w*)\n(.*?)^```', text, re.M | re.S):
        place, content = f'{name}:{text.count(chr(10), 0, match.start(3)) + 1}', match[3]
        marked = bool(match[1] and _NOT_RUN.search(match[1]))
        if match[2] == 'python':
            blocks.append(Piece(place, content, marked or bool(_NOT_RUN.search(content.splitlines()[0]))))
        elif match[2] in ('bash', 'sh', 'console') or any(map(COMMAND.match, content.splitlines())):
            lines = [line.strip() for line in split_lines(content) if line.strip()]
            commands += [Piece(place, line, marked or bool(_NOT_RUN.search(line))) for line in lines]
    prose = re.sub(r'^```.*?^```', '', text, flags=re.M | re.S)
    for paragraph in re.split(r'\n\s*\n', prose):
        for match in re.finditer(r'`([^`]+)`', paragraph):
            command = ' '.join(match[1].split())
            if COMMAND.match(command):
                commands.append(Piece(f'{name}: `{command}`', command, bool(_NOT_RUN.search(paragraph)), True))
    return commands, blocks


def read_header(path: Path) -> list[Piece]:
    """Commands of a file's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or ''
    name = path.relative_to(ROOT)
    lines = [line.strip() for line in split_lines(docstring)]
    return [Piece(f'{name}: {line}', line, bool(_NOT_RUN.search(line))) for line in lines if COMMAND.match(line)]


def settings_and_words(command: str, placeholders: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The environment that a command sets, and its words with files for placeholders.

    Dots that stand for more of the same become two checkpoints after an option, and nothing elsewhere.
    """
    words: list[str] = []
    for word in shlex.split(command, comments=True):
        if word == '...':
            words += ['CHECKPOINT', 'CHECKPOINT'] if words[-1].startswith('--') else []
        else:
            words.append(placeholders.get(word, word))
    settings: dict[str, str] = {}
    while re.fullmatch(r'[A-Z][A-Z_]*=\S+', words[0]):
        name, _, settings[name] = words.pop(0).partition('=')
    return settings, words
