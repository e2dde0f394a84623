"""``mmmaskclip``: lists the commands and the configs that come with the package, and runs a command by its name."""

from __future__ import annotations

import ast
import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.cli.shipped import shipped


def command() -> None:
    """Entry point of ``mmmaskclip``."""
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # of `mmmaskclip | head`; Python's own flush at the end must not meet it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main(argv: Sequence[str] | None = None) -> None:
    """List commands and configs, or run ``mmmaskclip COMMAND [ARGUMENTS]``.

    Args:
        argv: The command line. Defaults to this process's.

    Raises:
        SystemExit: With status 2 for a name that is no command, and with the command's own status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    tools = find_tools()
    if not arguments or arguments[0] in ('-h', '--help'):
        print(overview(tools))
        return
    name, *rest = arguments
    if name not in tools:
        print(f'error: there is no command {name!r}. There are: {", ".join(tools)}.', file=sys.stderr)
        raise SystemExit(2)
    path = str(tools[name])
    if path.endswith('.sh'):
        os.environ.setdefault('PYTHON', sys.executable)
        os.execv('/bin/sh', ['sh', path, *rest])
    sys.argv = [path, *rest]
    runpy.run_path(path, run_name='__main__')


def find_tools() -> dict[str, Path]:
    """The shipped tools by file name, without those that only other tools call."""
    folder = shipped('tools')
    files = [*folder.glob('*.py'), *folder.glob('*/*.py'), *folder.glob('*.sh')]
    inner = ('create_env', 'dist_launch', 'slurm_launch', 'test_matrix')
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem) if file.stem not in inner}


def overview(tools: dict[str, Path]) -> str:
    """Describe every command with the first sentence of its file, and list the configs by folder."""
    lines = ['usage: mmmaskclip COMMAND [ARGUMENTS]    (mmmaskclip COMMAND --help says which)', '', 'Commands:']
    width = max(map(len, tools))
    lines += [f'  {name:<{width}}  {_sentence(path)}' for name, path in tools.items()]
    lines += ['', 'Configs, to be named as FOLDER/NAME.py, or inherited: _base_ = "mmmaskclip::FOLDER/NAME.py"']
    folder = shipped('configs')
    for method in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(('_', '.'))):
        lines.append(f'  {method.name}/: {" ".join(sorted(path.stem for path in method.glob("*.py")))}')
    return '\n'.join(lines)


def _sentence(path: Path) -> str:
    text = path.read_text()
    if path.suffix == '.sh':
        return next((line.removeprefix('# ') for line in text.splitlines() if line.startswith('# ')), '')
    return (ast.get_docstring(ast.parse(text)) or '').partition('\n')[0].partition(': python')[0]


if __name__ == '__main__':
    command()
