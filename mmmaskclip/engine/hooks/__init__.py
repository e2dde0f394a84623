from .bad_samples_hook import BadSamplesHook
from .model_step_hook import ModelStepHook
from .source_counts_hook import SourceCountsHook
from .training_monitor_hook import TrainingMonitorHook

__all__ = ['BadSamplesHook', 'ModelStepHook', 'SourceCountsHook', 'TrainingMonitorHook']
