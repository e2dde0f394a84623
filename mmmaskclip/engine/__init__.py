from mmmaskclip.engine.distributed.fsdp import FullyShardedModel
from mmmaskclip.engine.hooks import (
    BadSamplesHook,
    GeneralAbilityHook,
    LongCaptionsHook,
    PreemptionHook,
    ReliableCheckpointHook,
    SourceCountsHook,
    WatchdogHook,
)
from mmmaskclip.engine.log_processor import PretrainLogProcessor
from mmmaskclip.engine.loops import EvaluationLoop, PretrainLoop, SuiteLoop, ZeroShotSegmentationLoop
from mmmaskclip.engine.optimizers import (
    LayerDecayOptimWrapperConstructor,
    PretrainOptimWrapperConstructor,
)
from mmmaskclip.engine.resumable_sampler import ResumableSampler
from mmmaskclip.engine.runner import ReliableRunner
from mmmaskclip.engine.step import (
    ModelStepHook,
    NonFiniteHook,
    PretrainOptimWrapper,
    StepTimerHook,
    TrainingMonitorHook,
)

__all__ = [
    'BadSamplesHook',
    'EvaluationLoop',
    'FullyShardedModel',
    'GeneralAbilityHook',
    'LayerDecayOptimWrapperConstructor',
    'LongCaptionsHook',
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
    'StepTimerHook',
    'SuiteLoop',
    'TrainingMonitorHook',
    'WatchdogHook',
    'ZeroShotSegmentationLoop',
]
