import itertools

import pytest
from mmengine.config import Config
from paths import TINY

from mmmaskclip.engine import ReliableRunner


@pytest.fixture
def tiny_runner(tmp_path, monkeypatch):
    """Returns a function that builds the Runner of tests/tiny/tiny.py with options, without training it."""
    monkeypatch.syspath_prepend(str(TINY))
    numbers = itertools.count()

    def build(**options):
        cfg = Config.fromfile(TINY / 'tiny.py')
        cfg.launcher = 'none'
        cfg.work_dir = str(tmp_path / 'run')
        # mmengine shares logs between runs of one name, and names them by the second.
        cfg.experiment_name = f'{tmp_path.name}-{next(numbers)}'
        cfg.visualizer.vis_backends = [{'type': 'LocalVisBackend'}]
        cfg.merge_from_dict(options)
        return ReliableRunner.from_cfg(cfg)

    return build
