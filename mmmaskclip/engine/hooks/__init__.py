from mmmaskclip.engine.hooks.bad_samples_hook import BadSamplesHook
from mmmaskclip.engine.hooks.checkpoint_hook import ReliableCheckpointHook
from mmmaskclip.engine.hooks.model_step_hook import ModelStepHook
from mmmaskclip.engine.hooks.nonfinite_hook import NonFiniteHook
from mmmaskclip.engine.hooks.preemption_hook import PreemptionHook
from mmmaskclip.engine.hooks.source_counts_hook import SourceCountsHook
from mmmaskclip.engine.hooks.training_monitor_hook import TrainingMonitorHook
from mmmaskclip.engine.hooks.watchdog_hook import WatchdogHook

__all__ = [
    'BadSamplesHook',
    'ModelStepHook',
    'ReliableCheckpointHook',
    'NonFiniteHook',
    'PreemptionHook',
    'SourceCountsHook',
    'TrainingMonitorHook',
    'WatchdogHook',
]
