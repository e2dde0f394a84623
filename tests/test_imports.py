import ast
import re
import subprocess
import sys
from pathlib import Path

import paths


def test_imports_run_downwards_and_in_no_circle():
    # In a process of its own: it configures logging anew, which closes the log files of this one.
    command = [Path(sys.executable).with_name('lint-imports'), '--no-cache']
    result = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


OTHER_STYLES = re.compile(r'^\s*from \.|^import torch\.nn\.functional|^from torch\.nn import functional$', re.MULTILINE)


FILES = [path for folder in ('mmmaskclip', 'tools', 'demo', 'tests') for path in (paths.ROOT / folder).rglob('*.py')]


def test_one_style_of_imports():
    assert not [path.name for path in FILES if OTHER_STYLES.search(path.read_text())]


def _length(node):
    """Lines of a function, without its docstring."""
    first = node.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_files_and_functions_are_short():
    texts = {path: path.read_text() for path in FILES}
    assert not [path.name for path, text in texts.items() if text.count('\n') > 400]
    functions = [
        (path.name, node)
        for path, text in texts.items()
        if 'tests' not in path.relative_to(paths.ROOT).parts
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    assert not [f'{name}: {node.name}' for name, node in functions if _length(node) > 60]
