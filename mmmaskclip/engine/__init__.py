from .hooks import BadSamplesHook, ModelStepHook, SourceCountsHook, TrainingMonitorHook
from .log_processor import PretrainLogProcessor
from .loops import EvaluationLoop, PretrainLoop, SuiteLoop, ZeroShotSegmentationLoop
from .optimizers import LayerDecayOptimWrapperConstructor, PretrainOptimWrapper, PretrainOptimWrapperConstructor
from .samplers import ResumableSampler

__all__ = [
    'BadSamplesHook',
    'EvaluationLoop',
    'LayerDecayOptimWrapperConstructor',
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
