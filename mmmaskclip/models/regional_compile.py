"""Regions of a model that ``torch.compile`` can turn into one graph each: a block, the patch embedding, a read-out."""

from __future__ import annotations

import functools
import importlib.util
import shutil
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

# In training, a region is compiled for so many sizes of its inputs. For further sizes it runs uncompiled: a training
# has few sizes, and a compilation takes seconds.
_MOST_SIZES = 8
# Towers, teacher and decoder, with and without gradient, full and masked, are variants of one code object.
_MOST_VARIANTS = 128
# By marked method: the original one, and whether it takes any size.
_REGIONS: dict[Any, tuple[Callable, bool]] = {}


def region(method: Callable | None = None, *, any_size: bool = False) -> Any:
    """Mark a method of a module as a region, which :func:`compile_regions` can compile; by itself it changes nothing.

    All modules of a class share one graph, in which parameters are inputs. The method takes tensors and integers by
    position, and calls no other region.

    Args:
        method: The method.
        any_size: Let one graph serve tensors of all sizes, and all integers. Else every size has its own graph where
            gradients are computed; elsewhere, as in evaluations, the second size of a dimension lets it vary.
    """
    if method is None:
        return functools.partial(region, any_size=any_size)

    @functools.wraps(method)
    def call(self: nn.Module, *args: Any) -> Any:
        compiled = self.__dict__.get('_compiled_regions')
        return method(self, *args) if compiled is None else compiled[method](self, *args)

    _REGIONS[call] = method, any_size
    return call


class _Compiled:
    """The compiled form of a region, for all modules that have it."""

    def __init__(self, method: Callable, any_size: bool, options: dict[str, Any]) -> None:
        self._plain, self._any_size = method, any_size
        compiler = functools.partial(torch.compile, method, **{'fullgraph': True, **options})
        self._training = compiler(dynamic=any_size)
        self._inference = compiler(dynamic=True if any_size else None)
        self._sizes: set[tuple[torch.Size, ...]] = set()

    def __call__(self, module: nn.Module, *args: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._inference(module, *args)
        if not self._any_size:
            sizes = tuple(value.shape for value in args if isinstance(value, Tensor))
            if sizes not in self._sizes and len(self._sizes) >= _MOST_SIZES:
                return self._plain(module, *args)
            self._sizes.add(sizes)
        return self._training(module, *args)

    def __deepcopy__(self, memo: dict) -> _Compiled:
        # The module is an argument, so copies of the model share the graph.
        return self


def compile_regions(model: nn.Module, how: bool | str | dict[str, Any]) -> bool:
    """Compile the regions inside a model when they first run. Parameters and results stay, the results to rounding.

    Args:
        model: Changed in place.
        how: False: no. True: yes. ``'auto'``: on a GPU with a working compiler only. A dict: yes, with these arguments
            of ``torch.compile``.

    Returns:
        Whether the regions will be compiled.

    Raises:
        ValueError: If ``how`` asks for it and there is no compiler.
    """
    if not how or (how == 'auto' and not torch.cuda.is_available()):
        return False
    options = dict(how) if isinstance(how, dict) else {}
    missing = _missing_compiler() if 'backend' not in options else None
    if missing:
        message = f'compiled={how!r}, but torch.compile needs {missing}: install it, or set model.compiled=False'
        if how != 'auto':
            raise ValueError(message)
        print_log(f'{message}. The model runs uncompiled.', logger='current', level=30)
        return False
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MOST_VARIANTS)
    # DDP would cut the graphs where its buckets end. Regions end anyway, and gradients are sent after each.
    torch._dynamo.config.optimize_ddp = False
    compiled: dict[Callable, _Compiled] = {}
    for module in model.modules():
        own = _regions_of(type(module))
        for method, any_size in own.items():
            compiled.setdefault(method, _Compiled(method, any_size, options))
        if own:
            module.__dict__['_compiled_regions'] = compiled
    return True


def _regions_of(kind: type) -> dict[Callable, bool]:
    """The marked methods of a class by what they were before, and whether each takes any size."""
    functions = (value for parent in kind.__mro__ for value in vars(parent).values() if isinstance(value, FunctionType))
    return dict(_REGIONS[function] for function in functions if function in _REGIONS)


def _missing_compiler() -> str | None:
    """What ``torch.compile`` lacks here: Triton on a GPU, and a C++ compiler everywhere."""
    if torch.cuda.is_available() and importlib.util.find_spec('triton') is None:
        return 'the package triton'
    return None if any(map(shutil.which, ('g++', 'c++', 'clang++'))) else 'a C++ compiler (g++)'
