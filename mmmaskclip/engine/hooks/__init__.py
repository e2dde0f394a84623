from mmmaskclip.engine.hooks.bad_samples_hook import BadSamplesHook
from mmmaskclip.engine.hooks.checkpoint_hook import ReliableCheckpointHook
from mmmaskclip.engine.hooks.general_ability_hook import GeneralAbilityHook
from mmmaskclip.engine.hooks.long_captions_hook import LongCaptionsHook
from mmmaskclip.engine.hooks.preemption_hook import PreemptionHook
from mmmaskclip.engine.hooks.similarity_maps_hook import SimilarityMapsHook
from mmmaskclip.engine.hooks.source_counts_hook import SourceCountsHook
from mmmaskclip.engine.hooks.watchdog_hook import WatchdogHook

__all__ = [
    'BadSamplesHook',
    'GeneralAbilityHook',
    'LongCaptionsHook',
    'ReliableCheckpointHook',
    'PreemptionHook',
    'SimilarityMapsHook',
    'SourceCountsHook',
    'WatchdogHook',
]
