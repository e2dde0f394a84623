from .fsdp import FullyShardedModel
from .hooks import (
    BadSamplesHook,
    ModelStepHook,
    NonFiniteHook,
    PreemptionHook,
    ReliableCheckpointHook,
    SourceCountsHook,
    TrainingMonitorHook,
    WatchdogHook,
)
from .log_processor import PretrainLogProcessor
from .loops import EvaluationLoop, PretrainLoop, SuiteLoop, ZeroShotSegmentationLoop
from .optimizers import LayerDecayOptimWrapperConstructor, PretrainOptimWrapper, PretrainOptimWrapperConstructor
from .runner import ReliableRunner
from .samplers import ResumableSampler

__all__ = [
    'BadSamplesHook',
    'EvaluationLoop',
    'FullyShardedModel',
    'LayerDecayOptimWrapperConstructor',
    'ModelStepHook',
    'NonFiniteHook',
    'PreemptionHook',
    'PretrainLogProcessor',
    'PretrainLoop',
    'PretrainOptimWrapper',
    'PretrainOptimWrapperConstructor',
    'ReliableCheckpointHook',
    'ReliableRunner',
    'ResumableSampler',
    'SourceCountsHook',
    'SuiteLoop',
    'TrainingMonitorHook',
    'WatchdogHook',
    'ZeroShotSegmentationLoop',
]
