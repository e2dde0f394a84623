"""The one table of what a config may hold: kind of value, registry of its parts, keys that are read."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from braceexpand import braceexpand
from mmengine import registry as root
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.runner.priority import Priority
from torch.utils.data import DataLoader


@dataclass(frozen=True)
class Key:
    """What stands at one place of a config."""

    kinds: tuple[type, ...] = ()  # types of the value; None always fits
    registry: Registry | None = None  # of the part at this place, or of the parts in this list; None: any
    is_part: bool = False  # a dict at this place needs a ``type``
    known: tuple[str, ...] = ()  # the only keys of a dict; empty: any
    strict: bool = True  # an unknown key is refused; or only one that resembles a known key
    # 'parts': the value and all below it. 'names': of a part, or of text, only the name, because mmcv's factories add
    # arguments. 'values': its ``type`` names no part. 'nothing': below it stand names of the user's own.
    checked: str = 'parts'
    fits: Callable[[Any], bool] = lambda value: True  # what a value of these kinds must fulfil, too
    expected: str = ''  # what a value must be, in words; empty: the words for its kinds


_D, _DL, _CLIP = (dict,), (dict, list), ('type', 'max_norm', 'norm_type', 'error_if_nonfinite', 'foreach', 'clip_value')
_PARAMWISE = (
    'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult',
    'dcn_offset_lr_mult', 'bypass_duplicate',
)  # fmt: skip
_POSITIVE = Key((int,), fits=lambda value: value >= 1, expected='a whole number of at least 1')
_LEVEL = Key(
    (str, int),
    fits=lambda value: isinstance(value, int) or isinstance(logging.getLevelName(value), int),
    expected='DEBUG, INFO, WARNING or ERROR',
)
_PRIORITY = Key(
    (int, str),
    fits=lambda value: value in range(101) or str(value).upper() in Priority.__members__,
    expected='0 to 100 or a name like HIGH',
)

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
    'log_level': _LEVEL,
    '{default_scope,experiment_name,launcher,load_from,sync_bn,work_dir}': Key((str,)),
    '{resume,find_unused_parameters}': Key((bool,)),
    '{activation_checkpointing,efficient_conv_bn_eval}': Key(),
    # What stands below.
    '{train,val,test}_cfg.{max_epochs,max_iters}': _POSITIVE,
    'param_scheduler.{#,*.#}': Key(registry=root.PARAM_SCHEDULERS, is_part=True),
    'default_hooks.*': Key(_D, root.HOOKS, is_part=True),
    'custom_hooks.#': Key(registry=root.HOOKS, is_part=True),
    '{custom_hooks.#,default_hooks.*}.priority': _PRIORITY,
    'randomness.seed': Key((int,)),
    'optim_wrapper.constructor': Key((str,), root.OPTIM_WRAPPER_CONSTRUCTORS, checked='names'),
    'optim_wrapper.clip_grad': Key(_D, known=_CLIP, checked='values'),  # its type is a kind of norm
    'optim_wrapper.clip_grad.{max_norm,clip_value}': Key((int, float)),
    'optim_wrapper.paramwise_cfg': Key(_D, known=_PARAMWISE, strict=False),  # constructors may read keys of their own
    '**.{custom_keys,data_prefix,metainfo}': Key(_D, checked='nothing'),
    '**.{batch_size,prefetch_factor}': _POSITIVE,
    '**.num_workers': Key((int,), fits=lambda value: value >= 0, expected='a whole number of at least 0'),
    '**.{persistent_workers,pin_memory,drop_last}': Key((bool,)),
    '**.dataset': Key(_D, root.DATASETS, is_part=True),
    '**.{sampler,batch_sampler}': Key(_D, root.DATA_SAMPLERS, is_part=True),
    '**.collate_fn': Key(registry=root.FUNCTIONS),
    '**.{pipeline.#,transforms.#,views.*.#}': Key(registry=root.TRANSFORMS, is_part=True),
    '**.vis_backends.#': Key(registry=root.VISBACKENDS, is_part=True),
    '**.optimizer': Key(_D, root.OPTIMIZERS, is_part=True),
    '**.init_cfg': Key(registry=root.WEIGHT_INITIALIZERS),
    '**.{norm,act,conv,upsample}_cfg': Key(checked='names'),
    '**.{nms,roi_layer}': Key(checked='values'),  # functions and classes of mmcv.ops, which no registry has
    '**.{backbone,decode_head}': Key(registry=root.MODELS, is_part=True),
    'model.{image,text}_{encoder,projection}': Key(registry=root.MODELS, is_part=True),
    'model.objectives.{*,*.loss,*.mask,*.decoder}': Key(registry=root.MODELS, is_part=True),
}
_PLACES = {place: key for pattern, key in KEYS.items() for place in braceexpand(pattern)}
RUNNER_KEYS = tuple(place for place in _PLACES if '.' not in place)
LOADER_KEYS = (*inspect.signature(DataLoader).parameters, 'num_batch_per_epoch')
DEFAULT_HOOKS = ('checkpoint', 'logger', 'param_scheduler', 'preemption', 'runtime_info', 'sampler_seed', 'timer')
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


@cache
def key_at(path: str) -> Key:
    """Find what the table says of a place; an empty key where it says nothing."""
    for place, key in _PLACES.items():
        if re.fullmatch(r'\.'.join(_SEGMENTS.get(part, re.escape(part)) for part in place.split('.')), path):
            return key
    return Key()
