"""Finds mistakes in a config before anything is built or loaded: unknown keys, types, values and paths.

mmengine builds parts one by one, some of them after the data has been indexed and the weights loaded, and merges a key
that nothing reads without a word.
"""

from __future__ import annotations

import difflib
import glob
import importlib
import inspect
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torchvision
from braceexpand import braceexpand
from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmmaskclip.config_check.sections import check_loader, check_sections, found, lacks_type
from mmmaskclip.config_check.types import Arguments, arguments_of, wrong_type
from mmmaskclip.datasets.training.shard_counts import is_local

# Keys that mmengine takes away before it builds the part, by its registry.
_TAKEN = {
    root.HOOKS: {'priority'},
    root.LOOPS: {'by_epoch'},
    root.OPTIM_WRAPPERS: {'constructor', 'paramwise_cfg', 'optimizer'},
    root.PARAM_SCHEDULERS: {'convert_to_iter_based'},
}
_ALWAYS = {'type', '_scope_'}
# What mmengine adds to a part's config when it builds it, where that is always the same; elsewhere, arguments without a
# default may come from the part around it.
_GIVEN = {
    root.HOOKS: set(),
    root.LOOPS: {'runner', 'dataloader', 'evaluator'},
    root.OPTIMIZERS: {'params'},
    root.PARAM_SCHEDULERS: {'optimizer', 'param_name'},
    root.TRANSFORMS: set(),
}
_LOADER = {
    *inspect.signature(DataLoader).parameters, 'num_batch_per_epoch', 'type',
}  # fmt: skip
# By the first key of a section: where its parts are registered. Elsewhere, and below them, every registry is searched.
_SECTIONS = {
    'model': root.MODELS,
    'dataset': root.DATASETS,
    'sampler': root.DATA_SAMPLERS,
    'batch_sampler': root.DATA_SAMPLERS,
    'collate_fn': root.FUNCTIONS,
    'optim_wrapper': root.OPTIM_WRAPPERS,
    'optimizer': root.OPTIMIZERS,
    'param_scheduler': root.PARAM_SCHEDULERS,
    'default_hooks': root.HOOKS,
    'custom_hooks': root.HOOKS,
    'train_cfg': root.LOOPS,
    'val_cfg': root.LOOPS,
    'test_cfg': root.LOOPS,
    'val_evaluator': root.METRICS,
    'test_evaluator': root.METRICS,
    'log_processor': root.LOG_PROCESSORS,
    'visualizer': root.VISUALIZERS,
    'vis_backends': root.VISBACKENDS,
    'init_cfg': root.WEIGHT_INITIALIZERS,
    'pipeline': root.TRANSFORMS,
    'views': root.TRANSFORMS,
    'transforms': root.TRANSFORMS,
}
_ALL = [value for value in vars(root).values() if isinstance(value, Registry)]
_RUNNER = {*inspect.signature(Runner.__init__).parameters} - {'self', 'cfg'}
_TOP = {*_RUNNER, 'activation_checkpointing', 'custom_imports', 'find_unused_parameters', 'model_wrapper_cfg'}
_MOST = 10
# mmpretrain's sets that make their folder and fill it, unless told not to.
_DOWNLOADED = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


class ConfigMistake(ValueError):
    """What is wrong with a config: every mistake with its place, what was found and what was probably meant."""


def check_config(cfg: Config) -> None:
    """Check sections, keys, types of parts and types of values. Nothing is built; the parts' packages are imported.

    Every dict with ``type`` in a section that a Runner reads is resolved in the registries of the config's scope, and
    its keys are compared with the arguments of what it names, with those of its base classes where it passes
    ``**kwargs`` on. Where that cannot be followed, only keys close to an argument are refused. Keys of plain dicts
    (``test_cfg`` of a detector) are free, and so are further variables at the top, unless they resemble a Runner's key.

    Args:
        cfg: The config, with its options merged.

    Raises:
        ConfigMistake: Names each unknown key, unknown type and value of a wrong type, and the nearest valid one.
    """
    top = cfg._cfg_dict.to_dict()
    # A config of a model alone says no scope.
    scope = cfg.get('default_scope') or 'mmmaskclip'
    problems = [*_top_level(top), *check_sections(top)]
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor') if not problems else None
    if isinstance(constructor, str):
        problems += _part({'type': constructor}, 'optim_wrapper.constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, scope)
    for key, value in top.items():
        if key in _RUNNER:
            problems += _section(key, value, scope)
    _refuse(problems)


def check_paths(cfg: Config, mode: str = 'train', checkpoint: str | None = None) -> None:
    """Check that what a run reads is there: weights, and the folders and files of its datasets.

    Only paths of this machine are looked at, no urls and no pipes; of a list with braces the first and the last. Suites
    are left out, because they go on without the sets that are missing.

    Args:
        cfg: The config of a run that is about to start.
        mode: ``'train'``, which also reads the data of the validation, or ``'test'``.
        checkpoint: What ``'test'`` loads, if it is a path.

    Raises:
        ConfigMistake: Names each key whose path does not exist, and the nearest one that does.
    """
    paths: list[tuple[str, str]] = []
    if checkpoint is not None:
        paths.append(('checkpoint', checkpoint))
    if mode == 'train':
        weights = [('load_from', cfg.get('load_from'))]
        weights += [(f'model.{key}', value) for key, value in _leaves(cfg.get('model'))]
        paths += [
            (key, value)
            for key, value in weights
            if isinstance(value, str) and key.endswith(('load_from', 'init_cfg.checkpoint'))
        ]
    problems = [problem for key, path in paths if (problem := _lost(key, path))]
    for section in ('train', 'val') if mode == 'train' else ('test',):
        if not str((cfg.get(f'{section}_cfg') or {}).get('type')).endswith('SuiteLoop'):
            problems += _lost_data(cfg.get(f'{section}_dataloader'), f'{section}_dataloader')
    _refuse(problems)


def _lost_data(node: Any, path: str) -> Iterator[str]:
    """Say which of the paths in a data loader's config do not exist."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ())
    for key, value in items:
        yield from _lost_data(value, f'{path}.{key}')
    # Other backends are no file system of this machine.
    if not isinstance(node, dict) or node.get('backend_args') or node.get('file_client_args'):
        return
    root = next((node[key] for key in ('data_root', 'root') if isinstance(node.get(key), str)), '')
    downloads = node.get('download', str(node.get('type')).rpartition('.')[2] in _DOWNLOADED)
    for key in ('data_root', 'root') if not downloads else ():
        if problem := _lost(f'{path}.{key}', node.get(key)):
            yield problem
            return
    urls = node.get('urls')
    for url in [urls] if isinstance(urls, str) else urls or ():
        shards = list(braceexpand(url)) if isinstance(url, str) and is_local(url) else []
        # One look of a pattern of thousands; the dataset's preflight names each shard that is missing.
        if all(_lost('', shard) for shard in (*shards[:1], *shards[-1:])):
            yield from filter(None, [_lost(f'{path}.urls', shard) for shard in shards[:1]])
    listed = node.get('ann_file')
    # mmengine's datasets look for it below the root, ours where it says.
    if isinstance(listed, str) and listed and '://' not in listed and not Path(listed).exists():
        yield from filter(None, [_lost(f'{path}.ann_file', str(Path(root, listed)))])


def _lost(key: str, path: Any) -> str | None:
    """Say that a path does not exist; None if it does, or is none of this machine's."""
    if not isinstance(path, str) or not path or '://' in path or path.startswith('pipe:'):
        return None
    local = Path(path).expanduser()
    if local.exists():
        return None
    if glob.has_magic(path):
        if glob.glob(str(local), recursive=True):
            return None
        return f'{key}={path!r}: no file matches it.{_near_path(path)}'
    return f'{key}={path!r}: there is no such file or folder.{_near_path(path)}'


def _refuse(problems: list[str]) -> None:
    if problems:
        more = [f'... and {len(problems) - _MOST} more'] if len(problems) > _MOST else []
        raise ConfigMistake('the config is wrong, nothing was started:\n  ' + '\n  '.join([*problems[:_MOST], *more]))


def _top_level(top: dict[str, Any]) -> Iterator[str]:
    for key, value in top.items():
        near = difflib.get_close_matches(key, _TOP, n=1, cutoff=0.9)
        if key not in _TOP and near and not callable(value):
            yield f'{key}: no Runner reads this key. Did you mean {near[0]}?'


def _section(key: str, value: Any, scope: str) -> Iterator[str]:
    if not key.endswith('_dataloader'):
        yield from _walk(value, key, _SECTIONS.get(key), scope)
        return
    # Suites of tasks have one loader for each.
    several = isinstance(value, dict) and 'dataset' not in value and all(isinstance(v, dict) for v in value.values())
    for path, loader in [(f'{key}.{name}', v) for name, v in value.items()] if several else [(key, value)]:
        if isinstance(loader, dict):
            yield from _unknown(path, set(loader) - _LOADER, _LOADER, 'a data loader')
            yield from check_loader(loader, path)
        yield from _walk(loader, path, None, scope)


def _walk(node: Any, path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    if isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from _walk(value, f'{path}.{index}', registry, scope)
    if not isinstance(node, dict):
        return
    inner = node.get('_scope_') or scope
    yield from lacks_type(node, path)
    if isinstance(node.get('type'), str) and not path.endswith('.clip_grad'):
        yield from _part(node, path, registry, inner)
    for key, value in node.items():
        # mmengine passes data_preprocessor, train_cfg and so on of a model on to it: only the first level is a loop.
        section = _SECTIONS.get(key) if not (key.endswith('_cfg') and key != 'init_cfg') else None
        yield from _walk(value, f'{path}.{key}', section, inner)


def _part(node: dict[str, Any], path: str, registry: Registry | None, scope: str) -> Iterator[str]:
    name = node['type']
    cls, where = _resolve(name, registry, scope)
    if cls is None:
        if not _is_operator(name):
            near = difflib.get_close_matches(name, _names(registry, scope, name), n=3, cutoff=0.6)
            hint = f'Did you mean {" or ".join(near)}?' if near else 'Is its package in custom_imports?'
            yield f'{path}.type={name!r}: nothing of this name is registered in {scope}. {hint}'
        return
    if path.split('.')[-1] in ('norm_cfg', 'act_cfg', 'conv_cfg', 'upsample_cfg'):
        return  # mmcv's factories take and add keys of their own
    known = arguments_of(cls)
    if known is None:
        return
    allowed = {*known.arguments, *(_TAKEN.get(where, ()) if where else ()), *_ALWAYS}
    unknown = set(node) - allowed
    if not known.complete:
        unknown = {key for key in unknown if difflib.get_close_matches(key, known.arguments, n=1, cutoff=0.75)}
    yield from _unknown(path, unknown, known.arguments, name)
    yield from _missing(node, path, known, where)
    for key, argument in known.arguments.items():
        if key in node and key not in _ALWAYS and (expected := wrong_type(node[key], argument)):
            yield f'{path}.{key}: {name} takes {expected}, found {found(node[key])}.'


def _missing(node: dict[str, Any], path: str, known: Arguments, where: Registry | None) -> Iterator[str]:
    if where not in _GIVEN or not known.complete:
        return
    for key, argument in known.arguments.items():
        if argument.default is inspect.Parameter.empty and key not in {*node, *_GIVEN[where]}:
            yield f'{path}.{key}: it is missing; {node["type"]} has no default for it.'


def _unknown(path: str, keys: Iterable[str], arguments: Iterable[str], owner: str) -> Iterator[str]:
    names = sorted(set(arguments) - _ALWAYS)
    for key in sorted(map(str, keys)):
        near = difflib.get_close_matches(key, names, n=2, cutoff=0.5)
        hint = f'Did you mean {" or ".join(near)}?' if near else f'There are: {", ".join(names) or "none"}.'
        if not difflib.get_close_matches(key, names, n=1, cutoff=0.75):
            hint += ' If it comes from a base config, _delete_=True keeps it out.'
        yield f'{path}.{key}: {owner} has no such argument. {hint}'


@cache
def _resolve(name: str, registry: Registry | None, scope: str) -> tuple[Any, Registry | None]:
    """Find what a type names, first in the section's registry, and the registry that has it."""
    if name.startswith('torchvision/') and hasattr(torchvision.datasets, name[12:]):
        return getattr(torchvision.datasets, name[12:]), None
    for base in _registries(registry, scope, name):
        part = base.children.get(scope, base).get(name)
        if part is not None:
            return part, base
    return None, None


def _names(registry: Registry | None, scope: str, name: str) -> set[str]:
    names: set[str] = set()
    for base in _registries(registry, scope, name) if registry is None else [registry]:
        names.update(base.module_dict)
        for child in base.children.values():
            names.update(f'{child.scope}.{key}' for key in child.module_dict)
            if child.scope == scope:
                names.update(child.module_dict)
    return names


@cache
def _package(scope: str) -> list[Registry]:
    """The registries that a package has for itself, beside the children of mmengine's."""
    try:
        module = importlib.import_module(f'{scope}.registry')
    except ImportError:
        return []
    return [value for value in vars(module).values() if isinstance(value, Registry) and value.parent is None]


def _registries(first: Registry | None, scope: str, name: str) -> list[Registry]:
    own = [registry for package in (scope, name.rpartition('.')[0]) if package for registry in _package(package)]
    return [*([first] if first is not None else []), *_ALL, *own]


def _is_operator(name: str) -> bool:
    """Whether mmcv's operators, which detectors name by ``type`` too, have this name."""
    return name in ('nms', 'soft_nms', 'batched_nms', 'RoIAlign', 'RoIPool', 'nms_match', 'nms_rotated')


def _leaves(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        items: Iterable[tuple[Any, Any]] = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        yield path, node
        return
    for key, value in items:
        yield from _leaves(value, f'{path}.{key}' if path else str(key))


def _near_path(path: str) -> str:
    """Name what is nearest to a path: in the last of its folders that exists."""
    lost = Path(path).expanduser().absolute()
    while not lost.parent.exists():
        lost = lost.parent
    names = [entry.name for entry in lost.parent.iterdir()] if lost.parent.is_dir() else []
    near = difflib.get_close_matches(lost.name, names, n=2, cutoff=0.5)
    if near:
        return f' Did you mean {" or ".join(str(lost.parent / name) for name in near)}?'
    return f' The last folder of it that exists is {lost.parent}.'
