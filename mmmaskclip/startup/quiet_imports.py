"""Drops messages that dependencies print at import about problems that no user of this package has."""

from __future__ import annotations

import functools
import sys
import warnings
from importlib.abc import MetaPathFinder

_MISLEADING_LOG = (
    # mmdet, which mmpretrain and mmseg import, asks to recompile mmcv for a detector that nobody uses here.
    'Line NMS is not compiled',
    # mmengine's own CheckpointHook uses both.
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)
# A debug message about an optional dataset service; mmengine prints it at every log level.
_MISLEADING_PRINT = 'Could not import OneDL'
# mmcv without compiled operators warns of an operator that nothing here uses.
_MISLEADING_WARNING = 'Fail to import ``MultiScaleDeformableAttention``'


def quiet_imports() -> None:
    """Drop exactly these messages in this process from now on; all others are printed as before.

    The filter is installed when one of the packages is first imported. ``import mmmaskclip`` therefore still takes
    milliseconds, and the order of import statements does not matter.
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
