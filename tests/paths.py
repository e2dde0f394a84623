"""Where the things are that tests read, and how a script that is no module is loaded."""

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / 'configs'
TOOLS = ROOT / 'tools'
TINY = ROOT / 'tests/tiny'
# Real data sets, in a folder beside the clone unless the variable names another.
DATA = Path(os.environ.get('MMMASKCLIP_DATA', ROOT.parent / 'shared/data')).resolve()
# The configs' own default is the folder `data`.
os.environ.setdefault('MMMASKCLIP_DATA', str(DATA))


def load_module(path: str | os.PathLike) -> ModuleType:
    """Import a Python file by its path.

    Args:
        path: The file, relative to the repository or absolute.
    """
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look themselves up
    spec.loader.exec_module(module)
    return module
