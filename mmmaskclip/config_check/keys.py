"""The one table of what stands where in a config.

A dict of a config becomes the arguments of a call: of the part that its ``type`` names, or of a function that the table
names. The signature of what is called therefore says which keys may stand there, and of which type their values are.
The table adds what no signature says.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from mmengine import registry as root
from mmengine.registry import Registry
from mmengine.runner import Runner
from mmengine.runner.priority import Priority
from mmengine.utils import import_modules_from_strings
from torch.utils.data import DataLoader

from mmmaskclip.config_check.arguments import Arguments, arguments, arguments_of


class Place(NamedTuple):
    """What stands at one place of a config.

    Attributes:
        registry: Of the part at this place. None: the part's name is looked up in all registries.
        form: ``'part'``: a dict with ``type``. ``'parts'``: one, or several by name, such as those of several tasks.
            ``'name'``: also the name of a part alone. ``'free'``: names of the user's own stand below, or arguments
            that mmcv's factories change. Empty: anything.
        takes: What takes the keys of a dict that is no part. None: any key is right.
        value: What a value must be, in words and as a check. Whether None may stand there, the signature says.
    """

    registry: Registry | None = None
    form: str = ''
    takes: Arguments | None = None
    value: tuple[str, Callable[[Any], bool]] | None = None


def _value(words: str, check: Callable[[Any], bool]) -> Place:
    return Place(value=(words, check))


def _whole(least: int) -> Place:
    return _value(f'a whole number of at least {least}', lambda value: type(value) is int and value >= least)


# Besides the arguments of its constructor, of which cfg is the whole config, a Runner reads these from the config.
# Further variables are the user's own.
_CONFIG = arguments(
    arguments_of(Runner), 0.9, activation_checkpointing=Any, compile=dict | bool, custom_imports=dict,
    efficient_conv_bn_eval=Any, find_unused_parameters=bool, model_wrapper_cfg=dict, sync_bn=str,
)  # fmt: skip
del _CONFIG.named['cfg']
RUNNER_KEYS = tuple(_CONFIG.named)
_LOADER = arguments(arguments_of(DataLoader), num_batch_per_epoch=int)
_HOOKS = ('checkpoint', 'logger', 'param_scheduler', 'preemption', 'runtime_info', 'sampler_seed', 'timer')
_CLIP = arguments(type=str, max_norm=float, norm_type=float, error_if_nonfinite=bool, foreach=bool, clip_value=float)
_FACTORS = ('bias_lr', 'bias_decay', 'norm_decay', 'flat_decay', 'dwconv_decay', 'dcn_offset_lr')
# Constructors of optimizer wrappers have keys of their own.
_PARAMWISE = arguments(
    None, 0.75, custom_keys=dict, bypass_duplicate=bool, **{f'{key}_mult': float for key in _FACTORS}
)
_ENV = arguments(cudnn_benchmark=bool, mp_cfg=dict, dist_cfg=dict, resource_limit=int)

#: By place, a regular expression over the keys that lead to it, joined by dots. The first row that fits counts.
PLACES = {
    '': Place(takes=_CONFIG),
    r'.+\.(max_epochs|max_iters|batch_size|prefetch_factor)': _whole(1),
    r'.+\.num_workers': _whole(0),
    r'randomness\.seed': _value('a whole number', lambda value: type(value) is int),
    r'(default|custom)_hooks\.\w+\.priority': _value(
        '0 to 100 or a name like HIGH', lambda value: value in range(101) or str(value).upper() in Priority.__members__
    ),
    'log_level': _value(
        'DEBUG, INFO, WARNING or ERROR',
        lambda value: isinstance(value, int) or isinstance(logging.getLevelName(value), int),
    ),
    'data_preprocessor': Place(root.MODELS),
    r'(train|val|test)_cfg': Place(root.LOOPS),
    r'(val|test)_evaluator': Place(root.METRICS, 'parts'),
    r'(val|test)_evaluator(\.\w+){1,2}': Place(root.METRICS),
    'optim_wrapper': Place(root.OPTIM_WRAPPERS),
    r'optim_wrapper\.constructor': Place(root.OPTIM_WRAPPER_CONSTRUCTORS, 'name'),
    r'optim_wrapper\.clip_grad': Place(takes=_CLIP),
    r'optim_wrapper\.paramwise_cfg': Place(takes=_PARAMWISE),
    r'param_scheduler((\.\w+)?\.\d+)?': Place(root.PARAM_SCHEDULERS, 'parts'),
    'default_hooks': Place(takes=arguments(None, 0.9, **dict.fromkeys(_HOOKS, dict))),
    r'default_hooks\.\w+|custom_hooks\.\d+': Place(root.HOOKS, 'part'),
    'log_processor': Place(root.LOG_PROCESSORS),
    'visualizer': Place(root.VISUALIZERS),
    'model_wrapper_cfg': Place(root.MODEL_WRAPPERS),
    'randomness': Place(takes=arguments_of(Runner.set_randomness)),
    'env_cfg': Place(takes=_ENV),
    'auto_scale_lr': Place(takes=arguments(enable=bool, base_batch_size=int)),
    'custom_imports': Place(takes=arguments_of(import_modules_from_strings)),
    r'.+\.(custom_keys|data_prefix|metainfo|(norm|act|conv|upsample)_cfg|nms|roi_layer)': Place(form='free'),
    r'.+\.dataset': Place(root.DATASETS, 'part'),
    r'.+\.(batch_)?sampler': Place(root.DATA_SAMPLERS, 'part'),
    r'.+\.collate_fn': Place(root.FUNCTIONS, 'name'),
    r'(train|val|test)_dataloader(\.\w+)?': Place(form='parts', takes=_LOADER),
    r'.+\.(pipeline|transforms|views\.\w+)\.\d+': Place(root.TRANSFORMS, 'part'),
    r'.+\.vis_backends\.\d+': Place(root.VISBACKENDS, 'part'),
    r'.+\.optimizer': Place(root.OPTIMIZERS, 'part'),
    r'.+\.init_cfg(\.\d+)?': Place(root.WEIGHT_INITIALIZERS),
    r'model(\.(image|text)_(encoder|projection)|\.objectives\.\w+(\.(loss|mask|decoder))?)?': Place(
        root.MODELS, 'part'
    ),
    r'.+\.(backbone|decode_head)': Place(root.MODELS, 'part'),
}

#: Keys of OpenMMLab's configs before 2022, which no Runner reads, and where their settings stand now.
OLD_KEYS = {
    'checkpoint_config': 'default_hooks.checkpoint', 'data': 'train_dataloader, val_dataloader and so on',
    'dist_params': 'env_cfg.dist_cfg', 'evaluation': 'val_evaluator and train_cfg.val_interval',
    'log_config': 'default_hooks.logger', 'lr_config': 'param_scheduler', 'runner': 'train_cfg',
    'optimizer_config': 'optim_wrapper.clip_grad', 'resume_from': 'resume and load_from',
}  # fmt: skip

#: By registry: the keys that mmengine takes away before it builds a part, and the arguments that it adds; None: any.
BUILT: dict[Registry | None, tuple[set[str], set[str] | None]] = {
    None: (set(), set()),  # what is no part
    root.HOOKS: ({'priority'}, set()),
    root.LOOPS: ({'by_epoch'}, {'runner', 'dataloader', 'evaluator'}),
    root.OPTIM_WRAPPERS: ({'constructor', 'paramwise_cfg', 'optimizer'}, None),
    root.OPTIMIZERS: (set(), {'params'}),
    root.PARAM_SCHEDULERS: ({'convert_to_iter_based'}, {'optimizer', 'param_name'}),
    root.TRANSFORMS: (set(), set()),
}
#: The same for other registries: the part around it may add any argument.
ANY: tuple[set[str], set[str] | None] = (set(), None)


@cache
def place(path: str) -> Place:
    """What the table says of a place; where it says nothing, any value and any part may stand."""
    return next((row for pattern, row in PLACES.items() if re.fullmatch(pattern, path)), Place())
