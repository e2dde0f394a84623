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


def test_files_are_short():
    assert not [path.name for path in FILES if path.read_text().count('\n') > 400]
