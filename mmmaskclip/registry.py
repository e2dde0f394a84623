"""The registries of scope ``mmmaskclip``.

Every part of a run is built from one of these by its config. A name that is not found here is looked up in mmengine's
root registry; parts of mmpretrain, mmseg and mmdet are always written with their scope (``mmpretrain.Accuracy``),
because those packages register different classes under the same names.
"""

import importlib
from contextlib import suppress
from functools import cache
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

from mmmaskclip.utils.nearest import did_you_mean


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope='mmmaskclip', locations=[f'mmmaskclip.{location}'])


MODELS = _child('model', root.MODELS, 'models')
DATASETS = _child('dataset', root.DATASETS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets')
FUNCTIONS = _child('function', root.FUNCTIONS, 'datasets')
HOOKS = _child('hook', root.HOOKS, 'engine')
LOOPS = _child('loop', root.LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
METRICS = _child('metric', root.METRICS, 'evaluation')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'engine')
LOG_PROCESSORS = _child('log processor', root.LOG_PROCESSORS, 'engine')

# Empty, for mmengine's own parts: without a registry of this scope each of them is looked up with a warning.
OPTIMIZERS = _child('optimizer', root.OPTIMIZERS, 'engine')
PARAM_SCHEDULERS = _child('parameter scheduler', root.PARAM_SCHEDULERS, 'engine')
MODEL_WRAPPERS = _child('model wrapper', root.MODEL_WRAPPERS, 'engine')
RUNNERS = _child('runner', root.RUNNERS, 'engine')
EVALUATOR = _child('evaluator', root.EVALUATOR, 'evaluation')
VISUALIZERS = _child('visualizer', root.VISUALIZERS, 'visualization')
VISBACKENDS = _child('visualizer backend', root.VISBACKENDS, 'visualization')


def find_part(name: str, registry: Registry | None, scope: str) -> tuple[Any, Registry | None]:
    """Find the class or function that a config's ``type`` names.

    Args:
        name: The ``type``, with or without its scope.
        registry: The root registry that is searched first; None where it is not known.
        scope: The config's scope.

    Returns:
        The class or function and the root registry above the one that has it; None twice if no registry has it.
    """
    # Not cached: in a notebook a part may be registered after a mistake, or anew.
    found = ((base.children.get(scope, base).get(name), base) for base in _roots(name, registry, scope))
    return next(((part, base) for part, base in found if part is not None), (None, None))


def unknown_part(name: str, registry: Registry | None, scope: str) -> str:
    """Say that :func:`find_part` finds nothing of this name, and which names it resembles."""
    names: set[str] = set()
    for base in _roots(name, None, scope) if registry is None else [registry]:
        names.update(base.module_dict, base.children[scope].module_dict if scope in base.children else ())
        names.update(f'{child.scope}.{key}' for child in base.children.values() for key in child.module_dict)
    hint = did_you_mean(name, names, most=3) or ' Is its package in custom_imports?'
    return f'nothing of this name is registered in {scope}.{hint}'


@cache
def _roots(name: str, first: Registry | None, scope: str) -> list[Registry]:
    """The root registries: ``first``, mmengine's, and those of the packages of the config's and the name's scope."""
    roots = [] if first is None else [first]
    for package in ('mmengine', scope, name.rpartition('.')[0] or scope):
        with suppress(ImportError):
            values = vars(importlib.import_module(f'{package}.registry')).values()
            roots += [value for value in values if isinstance(value, Registry) and value.parent is None]
    return roots
