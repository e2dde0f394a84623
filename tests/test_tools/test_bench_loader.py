"""OpenCLIP's loader runs in an environment of its own; what is missing there is said."""

import re
import sys

import pytest
from paths import load_module
from torch.utils.data import DataLoader

bench_loader = load_module('tools/analysis_tools/bench_loader.py')


def test_the_last_line_of_the_other_environment_is_read():
    code = 'print("a warning"); print(\'{"images": 3, "seconds": 1.5}\')'
    assert bench_loader.read_with_open_clip([sys.executable, '-c', code]) == {'images': 3, 'seconds': 1.5}


def test_what_fails_there_is_named_with_the_remedy():
    code = 'raise ModuleNotFoundError("No module named \'pandas\'")'
    message = r"exit status 1: ModuleNotFoundError: No module named 'pandas'\. .*'open_clip_torch\[training\]'"
    with pytest.raises(RuntimeError, match=message):
        bench_loader.read_with_open_clip([sys.executable, '-c', code])


def test_the_start_of_a_loader_is_timed_and_its_workers_are_counted():
    loader = DataLoader([{'key': str(i)} for i in range(24)], 4, num_workers=1)
    line = bench_loader._start(iter(loader), 4)
    assert re.match(
        r'first batch of 4 after \d+\.\d s, \d+\.\d s of CPU time of the busiest worker, \d+\.\d\d ms ', line
    )
    assert line.endswith(' MiB of shared memory')
