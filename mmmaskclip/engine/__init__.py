from .hooks import BadSamplesHook, ModelStepHook, SourceCountsHook, TrainingMonitorHook
from .log_processor import PretrainLogProcessor
from .loops import EvaluationLoop, PretrainLoop, SuiteLoop, ZeroShotSegmentationLoop
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
    'SuiteLoop',
    'TrainingMonitorHook',
    'ZeroShotSegmentationLoop',
]
