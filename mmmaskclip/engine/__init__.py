from .hooks import ModelStepHook, TrainingMonitorHook
from .log_processor import PretrainLogProcessor
from .loops import PretrainLoop
from .optimizers import PretrainOptimWrapper, PretrainOptimWrapperConstructor
from .samplers import ResumableSampler

__all__ = [
    'ModelStepHook',
    'PretrainLogProcessor',
    'PretrainLoop',
    'PretrainOptimWrapper',
    'PretrainOptimWrapperConstructor',
    'ResumableSampler',
    'TrainingMonitorHook',
]
