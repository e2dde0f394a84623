"""Drops messages of dependencies about problems that no user of this package has."""

from __future__ import annotations

import functools
import sys
import warnings
from importlib.abc import MetaPathFinder

# Beginnings of log messages to drop.
_MISLEADING_LOG = (
    # mmdet, which mmpretrain and mmseg import, asks to recompile mmcv for a detector that this package does not use.
    'Line NMS is not compiled',
    # Two warnings about deprecated classes. mmengine's own CheckpointHook uses them, so users cannot avoid them.
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# A debug message about an optional dataset service, which mmengine prints whatever the log level is.
_MISLEADING_PRINT = 'Could not import OneDL'
# mmcv without compiled operators warns about an operator that this package does not use.
_MISLEADING_WARNING = 'Fail to import ``MultiScaleDeformableAttention``'


def quiet_imports() -> None:
    """Drop the messages listed in this file, in this process, from now on. All others are printed as before.

    mmengine's logger is patched only when one of the packages is imported for the first time. So ``import mmmaskclip``
    still takes milliseconds, and the order of import statements does not matter.
    """
    warnings.filterwarnings('ignore', message=_MISLEADING_WARNING)
    sys.meta_path.insert(0, _FirstImport())


class _FirstImport(MetaPathFinder):
    """Import hook: Python asks it for every module that is not loaded yet.

    It finds no module itself. At the first of the packages below it installs the filter, and removes itself.
    """

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
