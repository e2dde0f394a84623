from .model_step_hook import ModelStepHook
from .training_monitor_hook import TrainingMonitorHook

__all__ = ['ModelStepHook', 'TrainingMonitorHook']
