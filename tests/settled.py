"""What each test process does once: tiny runs would spend half of their time on it.

A full garbage collection visits every object of what was imported, and a fork copies each page that it touches; a
training collects twice. yapf formats each config several times a run. Versions of compilers are asked for in processes.
"""

import gc

import mmengine.runner.runner
import torch.utils.tensorboard  # noqa: F401
from yapf.yapflib import yapf_api

FREEZE, UNFREEZE, FORMAT = gc.freeze, gc.unfreeze, yapf_api.FormatCode


def settle() -> None:
    """Keep what is imported so far from the collector, and configs from yapf; ``collect_env`` finds nothing."""
    mmengine.runner.runner.collect_env = dict
    yapf_api.FormatCode = lambda text, **_: (text, True)
    gc.collect()
    FREEZE()
    # A training's own freeze and thaw would give all of it back.
    gc.freeze = gc.unfreeze = _nothing


def _nothing() -> None:
    pass
