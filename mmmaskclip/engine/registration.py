"""Registers every part of mmmaskclip, for programs that build parts without a Runner."""

import datetime

from mmengine.registry import DefaultScope


def register_all_modules(init_default_scope: bool = True) -> None:
    """Register every part of mmmaskclip.

    Args:
        init_default_scope: Also make ``mmmaskclip`` the default scope, as a config's ``default_scope`` does. Defaults
            to True.
    """
    import mmmaskclip.datasets
    import mmmaskclip.evaluation
    import mmmaskclip.models  # noqa: F401

    if init_default_scope:
        # A new name each time, because an existing instance keeps its first scope.
        DefaultScope.get_instance(f'mmmaskclip-{datetime.datetime.now()}', scope_name='mmmaskclip')
