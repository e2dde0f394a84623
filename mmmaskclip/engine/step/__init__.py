from mmmaskclip.engine.step.model_step_hook import ModelStepHook
from mmmaskclip.engine.step.nonfinite_hook import NonFiniteHook
from mmmaskclip.engine.step.optim_wrapper import PretrainOptimWrapper
from mmmaskclip.engine.step.training_monitor_hook import TrainingMonitorHook

__all__ = ['ModelStepHook', 'NonFiniteHook', 'PretrainOptimWrapper', 'TrainingMonitorHook']
