"""What each test process does once: tiny runs would spend half of their time on it.

A full garbage collection visits every object of what was imported, and a fork copies each page that it touches; a
training collects twice. yapf formats each config several times a run. Versions of compilers are asked for in processes.
A shipped config inherits files that a hundred others inherit, too.
"""

import copy
import gc
import os
from typing import Any

import mmengine.runner.runner
import torch.utils.tensorboard  # noqa: F401
from mmengine.config import Config
from paths import CONFIGS
from yapf.yapflib import yapf_api

FREEZE, UNFREEZE, FORMAT = gc.freeze, gc.unfreeze, yapf_api.FormatCode


def remember_shipped_configs() -> None:
    """Read each file below configs/ once for each setting of the variables that configs read."""
    read, known = Config._file2dict, {}

    def file2dict(filename: str | os.PathLike, *args: Any, **options: Any) -> Any:
        path = os.path.abspath(filename)
        if not path.startswith(f'{CONFIGS}/'):
            return read(filename, *args, **options)
        variables = sorted(item for item in os.environ.items() if item[0].startswith('MMMASKCLIP'))
        key = repr((path, args, options, variables))
        if key not in known:
            known[key] = read(filename, *args, **options)
        return copy.deepcopy(known[key])

    Config._file2dict = staticmethod(file2dict)


def settle() -> None:
    """Keep what is imported so far from the collector, and configs from yapf; ``collect_env`` finds nothing."""
    mmengine.runner.runner.collect_env = dict
    yapf_api.FormatCode = lambda text, **_: (text, True)
    keep_from_collector()
    # A training's own freeze and thaw would give all of it back.
    gc.freeze = gc.unfreeze = _nothing


def keep_from_collector() -> None:
    """Collect what is garbage, and keep the rest from the collector from now on."""
    gc.collect()
    FREEZE()


def _nothing() -> None:
    pass
