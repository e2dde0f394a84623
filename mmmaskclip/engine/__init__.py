from .hooks import BadSamplesHook, ModelStepHook, SourceCountsHook, TrainingMonitorHook
from .log_processor import PretrainLogProcessor
from .loops import EvaluationLoop, PretrainLoop
from .optimizers import PretrainOptimWrapper, PretrainOptimWrapperConstructor
from .samplers import ResumableSampler

__all__ = [
    'BadSamplesHook',
    'EvaluationLoop',
    'ModelStepHook',
    'PretrainLogProcessor',
    'PretrainLoop',
    'PretrainOptimWrapper',
    'PretrainOptimWrapperConstructor',
    'ResumableSampler',
    'SourceCountsHook',
    'TrainingMonitorHook',
]
