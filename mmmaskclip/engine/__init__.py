from mmmaskclip.engine.fsdp import FullyShardedModel
from mmmaskclip.engine.hooks import (
    BadSamplesHook,
    ModelStepHook,
    NonFiniteHook,
    PreemptionHook,
    ReliableCheckpointHook,
    SourceCountsHook,
    TrainingMonitorHook,
    WatchdogHook,
)
from mmmaskclip.engine.log_processor import PretrainLogProcessor
from mmmaskclip.engine.loops import EvaluationLoop, PretrainLoop, SuiteLoop, ZeroShotSegmentationLoop
from mmmaskclip.engine.optimizers import (
    LayerDecayOptimWrapperConstructor,
    PretrainOptimWrapper,
    PretrainOptimWrapperConstructor,
)
from mmmaskclip.engine.runner import ReliableRunner
from mmmaskclip.engine.samplers import ResumableSampler

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
