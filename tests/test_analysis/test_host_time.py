import pytest
from mmengine.config import Config
from paths import CONFIGS

from mmmaskclip.analysis.host_time import measure_host_time


def test_every_hook_of_a_config_is_timed_at_its_start_and_later(tmp_path):
    cfg = Config.fromfile(CONFIGS / 'maskclip/vitt16_flickr8k_v1.py')
    cfg.merge_from_dict({'default_hooks.logger.interval': 2, 'visualizer.vis_backends': [{'type': 'LocalVisBackend'}]})
    first, later = measure_host_time(cfg, str(tmp_path), count=4, later=1000)
    for times in (first, later):
        assert {'TrainingMonitorHook', 'LoggerHook', 'NonFiniteHook', 'ModelStepHook', 'rest'} <= {*times}
        assert '_Watch' not in times
        parts = [value for name, value in times.items() if name not in ('sum', 'median')]
        assert times['sum'] == pytest.approx(sum(parts))
