"""The one table of what a config may hold: kind of value, registry of its parts, keys that are read."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import cache

from braceexpand import braceexpand
from mmengine import registry as root
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Key:
    """What stands at one place of a config.

    Attributes:
        kinds: Types of the value; None always fits.
        registry: Where the part at this place, or the parts in this list, are registered; None: anywhere.
        is_part: Whether a dict at this place needs a ``type``.
        known: The only keys of a dict; empty: any.
        strict: Whether a key that is not ``known`` is refused, or only one that resembles a known key.
        checked: ``'parts'``: the value, and what is below it as parts; ``'names'``: of a part only its name, because
            mmcv's factories add arguments; ``'values'``: its ``type`` names no part; ``'nothing'``: below it stand
            names of the user's own.
        least: Least value of a number.
    """

    kinds: tuple[type, ...] = ()
    registry: Registry | None = None
    is_part: bool = False
    known: tuple[str, ...] = ()
    strict: bool = True
    checked: str = 'parts'
    least: int | None = None


_D, _DL, _CLIP = (dict,), (dict, list), ('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value')
_PARAMWISE = (
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
    'dcn_offset_lr_mult', 'bypass_duplicate',
)  # fmt: skip

#: By place. ``*`` is any one key, ``#`` an index, ``**`` any number of keys, ``{a,b}`` both. The first to fit counts.
KEYS = {
    # What a Runner reads.
    'model': Key(_D, root.MODELS, is_part=True),
    'data_preprocessor': Key(_D, root.MODELS),
    '{train,val,test}_dataloader': Key(_D),
    '{train,val,test}_cfg': Key(_D, root.LOOPS),
    '{val,test}_evaluator': Key(_DL, root.METRICS),
    'optim_wrapper': Key(_D, root.OPTIM_WRAPPERS),
    'param_scheduler': Key(_DL, root.PARAM_SCHEDULERS, is_part=True),
    'default_hooks': Key(_D),
    'custom_hooks': Key((list,)),
    'log_processor': Key(_D, root.LOG_PROCESSORS),
    'visualizer': Key(_D, root.VISUALIZERS),
    'model_wrapper_cfg': Key(_D, root.MODEL_WRAPPERS),
    'randomness': Key(_D, known=tuple(inspect.signature(Runner.set_randomness).parameters)[1:]),
    'env_cfg': Key(_D, known=('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit')),
    'auto_scale_lr': Key(_D, known=('enable', 'base_batch_size')),
    'custom_imports': Key(_D, known=('imports', 'allow_failed_imports')),
    'compile': Key((dict, bool)),
    'log_level': Key((str, int)),
    '{default_scope,experiment_name,launcher,load_from,sync_bn,work_dir}': Key((str,)),
    '{resume,find_unused_parameters}': Key((bool,)),
    '{activation_checkpointing,efficient_conv_bn_eval}': Key(),
    # What stands below.
    'param_scheduler.{#,*.#}': Key(registry=root.PARAM_SCHEDULERS, is_part=True),
    'default_hooks.*': Key(_D, root.HOOKS, is_part=True),
    'custom_hooks.#': Key(registry=root.HOOKS, is_part=True),
    'randomness.seed': Key((int,)),
    'optim_wrapper.constructor': Key((str,)),
    'optim_wrapper.clip_grad': Key(_D, known=_CLIP, checked='values'),  # its type is a kind of norm
    'optim_wrapper.clip_grad.{max_norm,clip_value}': Key((int, float)),
    'optim_wrapper.paramwise_cfg': Key(_D, known=_PARAMWISE, strict=False),  # constructors may read keys of their own
    '**.{custom_keys,data_prefix,metainfo}': Key(_D, checked='nothing'),
    '**.{batch_size,prefetch_factor}': Key((int,), least=1),
    '**.num_workers': Key((int,), least=0),
    '**.{persistent_workers,pin_memory,drop_last}': Key((bool,)),
    '**.dataset': Key(_D, root.DATASETS, is_part=True),
    '**.{sampler,batch_sampler}': Key(_D, root.DATA_SAMPLERS, is_part=True),
    '**.collate_fn': Key(registry=root.FUNCTIONS),
    '**.{pipeline.#,transforms.#,views.*.#}': Key(registry=root.TRANSFORMS, is_part=True),
    '**.vis_backends.#': Key(registry=root.VISBACKENDS, is_part=True),
    '**.optimizer': Key(_D, root.OPTIMIZERS, is_part=True),
    '**.init_cfg': Key(registry=root.WEIGHT_INITIALIZERS),
    '**.{norm,act,conv,upsample}_cfg': Key(checked='names'),
    '**.{backbone,decode_head}': Key(registry=root.MODELS, is_part=True),
    'model.{image,text}_{encoder,projection}': Key(registry=root.MODELS, is_part=True),
    'model.objectives.{*,*.loss,*.mask,*.decoder}': Key(registry=root.MODELS, is_part=True),
}
_PLACES = {place: key for pattern, key in KEYS.items() for place in braceexpand(pattern)}
RUNNER_KEYS = tuple(place for place in _PLACES if '.' not in place)
LOADER_KEYS = (*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch', 'type')
#: Keys of OpenMMLab's configs before 2022, which no Runner reads, and where their settings stand now.
OLD_KEYS = {
    'checkpoint_config': 'default_hooks.checkpoint',
    'dist_params': 'env_cfg.dist_cfg',
    'evaluation': 'val_evaluator and train_cfg.val_interval',
    'log_config': 'default_hooks.logger',
    'lr_config': 'param_scheduler',
    'optimizer_config': 'optim_wrapper.clip_grad',
    'resume_from': 'resume and load_from',
    'runner': 'train_cfg',
}

_SEGMENTS = {'**': r'.+', '*': r'[^.]+', '#': r'\d+'}
_PATTERNS = [
    (re.compile(r'\.'.join(_SEGMENTS.get(part, re.escape(part)) for part in place.split('.'))), key)
    for place, key in _PLACES.items()
]


@cache
def key_at(path: str) -> Key:
    """Find what the table says of a place; an empty key where it says nothing."""
    return next((key for pattern, key in _PATTERNS if pattern.fullmatch(path)), Key())
