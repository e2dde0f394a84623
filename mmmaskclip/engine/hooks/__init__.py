from .bad_samples_hook import BadSamplesHook
from .checkpoint_hook import ReliableCheckpointHook
from .model_step_hook import ModelStepHook
from .nonfinite_hook import NonFiniteHook
from .preemption_hook import PreemptionHook
from .source_counts_hook import SourceCountsHook
from .training_monitor_hook import TrainingMonitorHook
from .watchdog_hook import WatchdogHook

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
