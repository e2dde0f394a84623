"""OpenCLIP's loader runs in an environment of its own; what is missing there is said."""

import sys

import pytest
from paths import load_module

bench_loader = load_module('tools/analysis_tools/bench_loader.py')


def test_the_last_line_of_the_other_environment_is_read():
    code = 'print("a warning"); print(\'{"images": 3, "seconds": 1.5}\')'
    assert bench_loader.read_with_open_clip([sys.executable, '-c', code]) == {'images': 3, 'seconds': 1.5}


def test_what_fails_there_is_named_with_the_remedy():
    code = 'raise ModuleNotFoundError("No module named \'pandas\'")'
    message = r"exit status 1: ModuleNotFoundError: No module named 'pandas'\. .*'open_clip_torch\[training\]'"
    with pytest.raises(RuntimeError, match=message):
        bench_loader.read_with_open_clip([sys.executable, '-c', code])
