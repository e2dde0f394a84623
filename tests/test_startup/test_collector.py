import gc

import pytest
from settled import FREEZE, UNFREEZE

from mmmaskclip.startup.collector import paused_collector


@pytest.mark.parametrize('enabled', [True, False])
def test_imports_are_not_interrupted_and_are_passed_over_afterwards(monkeypatch, enabled):
    monkeypatch.setattr(gc, 'freeze', FREEZE)
    UNFREEZE()
    if not enabled:
        gc.disable()
    try:
        with paused_collector():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.enable()
