"""The one table of what stands where in a config.

A dict of a config becomes the arguments of a call: of the part that its ``type`` names, or of a function that the table
names. The signature of what is called therefore says which keys may stand there, and of which type their values are.
The table adds what no signature says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from inspect import Signature
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.runner.priority import Priority
from mmengine.utils import import_modules_from_strings
from torch.utils.data import DataLoader

from mmmaskclip.config_check.parts import signature_of


@dataclass(frozen=True)
class Place:
    """What stands at one place of a config.

    Attributes:
        registry: Of the part at this place. None: the part's name is looked up in all registries.
        form: ``'part'``: a dict with ``type`` must stand here. ``'name'``: the name of a part may stand here alone.
        takes: Signature of what takes the keys of a dict that is no part. None: any key is right.
        tolerance: Refuse only those unknown keys that resemble a known one at least so much, from 0 to 1. With 0 every
            unknown key is refused.
        by_name: Here may also stand several such dicts by name, such as the loaders of several tasks.
        checked: False: names of the user's own stand below this place, or arguments that mmcv's factories change.
    """

    registry: Registry | None = None
    form: str = 'any'
    takes: Signature | None = None
    tolerance: float = 0.0
    by_name: bool = False
    checked: bool = True


_HOOKS = ('checkpoint', 'logger', 'param_scheduler', 'preemption', 'runtime_info', 'sampler_seed', 'timer')
_FACTORS = (
    'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult', 'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult',
)  # fmt: skip
_CLIP = signature_of(
    None, type=str, max_norm=float, norm_type=float, error_if_nonfinite=bool, foreach=bool, clip_value=float
)
# Besides the arguments of its constructor, of which cfg is the whole config, a Runner reads these from the config.
_CONFIG = signature_of(
    Runner,
    activation_checkpointing=Any,
    compile=dict | bool,
    custom_imports=dict,
    efficient_conv_bn_eval=Any,
    find_unused_parameters=bool,
    model_wrapper_cfg=dict,
    sync_bn=str,
)
assert _CONFIG is not None
RUNNER_KEYS = tuple(key for key in _CONFIG.parameters if key != 'cfg')

#: By place, a regular expression over the keys that lead to it, joined by dots. The first row that fits counts.
PLACES = {
    '': Place(
        takes=_CONFIG.replace(parameters=[_CONFIG.parameters[key] for key in RUNNER_KEYS]), tolerance=0.9
    ),  # further variables are the user's own
    'model': Place(root.MODELS, 'part'),
    'data_preprocessor': Place(root.MODELS),
    r'(train|val|test)_cfg': Place(root.LOOPS),
    r'(val|test)_evaluator': Place(root.METRICS, 'part', by_name=True),
    r'(val|test)_evaluator(\.\w+){1,2}': Place(root.METRICS),
    'optim_wrapper': Place(root.OPTIM_WRAPPERS),
    r'optim_wrapper\.constructor': Place(root.OPTIM_WRAPPER_CONSTRUCTORS, 'name'),
    r'optim_wrapper\.clip_grad': Place(takes=_CLIP),
    r'optim_wrapper\.paramwise_cfg': Place(
        takes=signature_of(None, custom_keys=dict, bypass_duplicate=bool, **dict.fromkeys(_FACTORS, float)),
        tolerance=0.75,  # constructors have keys of their own
    ),
    r'param_scheduler((\.\w+)?\.\d+)?': Place(root.PARAM_SCHEDULERS, 'part', by_name=True),
    'default_hooks': Place(takes=signature_of(None, **dict.fromkeys(_HOOKS, dict)), tolerance=0.9),
    r'default_hooks\.\w+|custom_hooks\.\d+': Place(root.HOOKS, 'part'),
    'log_processor': Place(root.LOG_PROCESSORS),
    'visualizer': Place(root.VISUALIZERS),
    'model_wrapper_cfg': Place(root.MODEL_WRAPPERS),
    'randomness': Place(takes=signature_of(Runner.set_randomness)),
    'env_cfg': Place(takes=signature_of(None, cudnn_benchmark=bool, mp_cfg=dict, dist_cfg=dict, resource_limit=int)),
    'auto_scale_lr': Place(takes=signature_of(None, enable=bool, base_batch_size=int)),
    'custom_imports': Place(takes=signature_of(import_modules_from_strings)),
    r'.+\.(custom_keys|data_prefix|metainfo)': Place(checked=False),
    r'.+\.(norm|act|conv|upsample)_cfg|.+\.(nms|roi_layer)': Place(checked=False),
    r'.+\.dataset': Place(root.DATASETS, 'part'),
    r'.+\.(batch_)?sampler': Place(root.DATA_SAMPLERS, 'part'),
    r'.+\.collate_fn': Place(root.FUNCTIONS, 'name'),
    r'(train|val|test)_dataloader(\.\w+)?': Place(
        takes=signature_of(DataLoader, num_batch_per_epoch=int), by_name=True
    ),
    r'.+\.(pipeline|transforms|views\.\w+)\.\d+': Place(root.TRANSFORMS, 'part'),
    r'.+\.vis_backends\.\d+': Place(root.VISBACKENDS, 'part'),
    r'.+\.optimizer': Place(root.OPTIMIZERS, 'part'),
    r'.+\.init_cfg(\.\d+)?': Place(root.WEIGHT_INITIALIZERS),
    r'.+\.(backbone|decode_head)|model\.(image|text)_(encoder|projection)': Place(root.MODELS, 'part'),
    r'model\.objectives\.\w+(\.(loss|mask|decoder))?': Place(root.MODELS, 'part'),
}


#: By place: what a value must be, in words and as a check. Whether None may stand there, the signature says.
VALUES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    r'.+\.(max_epochs|max_iters|batch_size|prefetch_factor)': (
        'a whole number of at least 1',
        lambda value: type(value) is int and value >= 1,
    ),
    r'.+\.num_workers': ('a whole number of at least 0', lambda value: type(value) is int and value >= 0),
    r'randomness\.seed': ('a whole number', lambda value: type(value) is int),
    r'(default|custom)_hooks\.\w+\.priority': (
        '0 to 100 or a name like HIGH',
        lambda value: value in range(101) or str(value).upper() in Priority.__members__,
    ),
    'log_level': (
        'DEBUG, INFO, WARNING or ERROR',
        lambda value: isinstance(value, int) or isinstance(logging.getLevelName(value), int),
    ),
}

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

#: By registry: keys that mmengine takes away before it builds a part, and arguments that it adds. To parts of other
#: registries, the part around them may add any argument.
TAKEN = {
    root.HOOKS: {'priority'},
    root.LOOPS: {'by_epoch'},
    root.OPTIM_WRAPPERS: {'constructor', 'paramwise_cfg', 'optimizer'},
    root.PARAM_SCHEDULERS: {'convert_to_iter_based'},
}
ADDED: dict[Registry | None, set[str]] = {
    root.HOOKS: set(),
    root.LOOPS: {'runner', 'dataloader', 'evaluator'},
    root.OPTIMIZERS: {'params'},
    root.PARAM_SCHEDULERS: {'optimizer', 'param_name'},
    root.TRANSFORMS: set(),
}


@cache
def place(path: str) -> Place:
    """What the table says of a place; where it says nothing, any value and any part may stand."""
    return next((row for pattern, row in PLACES.items() if re.fullmatch(pattern, path)), Place())


@cache
def value_at(path: str) -> tuple[str, Callable[[Any], bool]] | None:
    """What a value at a place must be, in words and as a check; None where its type alone counts."""
    return next((row for pattern, row in VALUES.items() if re.fullmatch(pattern, path)), None)
