"""Silences what dependencies print at import (and at each start) that sends readers after problems they do not have."""

from __future__ import annotations

import functools
import sys
import warnings
from importlib.abc import MetaPathFinder

_MISLEADING_LOG = (
    # mmdet, imported by mmpretrain and mmseg, about one detector; it asks to recompile mmcv with CUDA.
    'Line NMS is not compiled',
    # mmengine's own CheckpointHook is the user of both.
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# An optional dataset service; a debug message, which mmengine prints whatever its level.
_MISLEADING_PRINT = 'Could not import OneDL'
# mmcv without compiled operators, about an operator that nothing here uses.
_MISLEADING_WARNING = 'Fail to import ``MultiScaleDeformableAttention``'


def quiet_imports() -> None:
    """Drop exactly these messages from now on in this process; every other one is passed on.

    It takes effect when one of the packages is first imported, so that ``import mmmaskclip`` stays a matter of
    milliseconds, and so that the order of import statements does not matter.
    """
    warnings.filterwarnings('ignore', message=_MISLEADING_WARNING)
    sys.meta_path.insert(0, _FirstImport())


class _FirstImport(MetaPathFinder):
    """Finds nothing; notices the first import of a package that prints."""

    def find_spec(self, fullname, path, target=None):
        if fullname in ('mmengine.runner', 'mmpretrain', 'mmseg', 'mmdet'):
            sys.meta_path.remove(self)
            _filter_messages()


def _filter_messages() -> None:
    import mmengine.logging
    from mmengine.logging import MMLogger

    call_handlers, print_log = MMLogger.callHandlers, mmengine.logging.print_log

    @functools.wraps(call_handlers)
    def filtered_call_handlers(self, record):
        if not str(record.msg).startswith(_MISLEADING_LOG):
            call_handlers(self, record)

    @functools.wraps(print_log)
    def filtered_print_log(msg, *args, **kwargs):
        if not str(msg).startswith(_MISLEADING_PRINT):
            print_log(msg, *args, **kwargs)

    MMLogger.callHandlers = filtered_call_handlers
    mmengine.logging.print_log = filtered_print_log
