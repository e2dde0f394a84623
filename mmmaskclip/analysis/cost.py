"""Cost of a training step: floating-point operations and parameters by part of the model."""

from __future__ import annotations

import bisect
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.contracts import ImageTower
from mmmaskclip.models.backbones.whole_image_tower import WholeImageTower
from mmmaskclip.models.losses.codeword import CodewordLoss
from mmmaskclip.models.objectives import Objective
from mmmaskclip.models.objectives.targets import FrozenEncoder
from mmmaskclip.models.objectives.teacher import MomentumCopy
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS

#: The parts of a step, in the order of the table. A contrastive step has no "second pass": that pass encodes visible
#: patches, corrupted images or masked captions. "targets" are teachers and tokenizers, which get no gradient.
PARTS = ('image tower', 'second image pass', 'targets', 'text tower', 'second text pass', 'decoders, heads', 'losses')


class PartFlops(TorchDispatchMode):
    """Counts the operations of forward and backward pass by part.

    torch's FlopCounterMode sorts by module: it cannot distinguish two passes of one tower, and it sees no method but
    ``forward``. Here the caller names the current part with :meth:`part`. An operation of the backward pass belongs to
    the part that made its autograd node; the node's sequence number identifies that part.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[str] = Counter()
        self._current = PARTS[-2]
        # From sequence number _starts[i] on, up to the next entry, autograd nodes belong to _parts[i].
        self._starts = [0]
        self._parts = [self._current]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Operations inside the block, and their backward pass, belong to this part."""
        before = self._current
        self._enter(name)
        try:
            yield
        finally:
            self._enter(before)

    @property
    def current(self) -> str:
        """The current part of the forward pass."""
        return self._current

    def _enter(self, name: str) -> None:
        self._current = name
        self._starts.append(torch.autograd._get_sequence_nr())
        self._parts.append(name)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        formula = flop_registry.get(func._overloadpacket)
        if formula is None and func is not torch.ops.prim.device.default:
            with self:
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if formula is not None:
            node = torch._C._current_autograd_node()
            part = self._current if node is None else self._part_of(node._sequence_nr())
            self.flops[part] += formula(*args, **kwargs, out_val=result)
        return result

    def _part_of(self, number: int) -> str:
        return self._parts[bisect.bisect_right(self._starts, number) - 1]


def step_flops(cfg: Config, batch_size: int, caption_length: int, device: str = 'meta') -> dict[str, float]:
    """Operations of the forward and backward pass of one training step, per image, without the optimizer.

    A multiplication and an addition are two operations. Only matrix products and convolutions count. Attention counts
    as its products (two forward, four backward), causal or not.

    Args:
        cfg: A pretraining config.
        batch_size: Images of the step. The cost of contrastive losses per image grows with it.
        caption_length: Tokens of every caption.
        device: ``'meta'`` computes shapes only. It takes almost no time and memory, and counts the same as ``'cpu'``.

    Returns:
        Operations by part, see :data:`PARTS`; parts without operations are left out.
    """
    counter, batch = PartFlops(), random_batch(cfg, batch_size, caption_length)
    with torch.device(device):
        model = MODELS.build(cfg.model)
    model.to(device).train()
    with ExitStack() as stack:
        if device == 'meta':
            # Meta tensors have no autocast. Only the losses use it, to switch it off, and here it is off anyway.
            stack.enter_context(mock.patch.object(torch, 'autocast', return_value=nullcontext()))
        # Fused attention kernels recompute different parts on different devices; plain products count alike on all.
        for context in (*_label_parts(model, counter), sdpa_kernel(SDPBackend.MATH), counter):
            stack.enter_context(context)
        losses = model._run_forward(model.data_preprocessor(batch, training=True), mode='loss')
        total, _ = model.parse_losses(losses)
        total.backward()
    return {part: counter.flops[part] / batch_size for part in PARTS if counter.flops[part]}


def parameter_counts(cfg: Config) -> dict[str, int]:
    """Parameters by part, see :data:`PARTS`; also ``trained`` and ``all``."""
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    counts: Counter[str] = Counter()
    targets = {id(p) for module in _target_modules(model) for p in module.parameters()}
    for name, parameter in model.named_parameters():
        top = name.split('.')[0]
        if id(parameter) in targets:
            part = 'targets'
        else:
            part = {'image_encoder': PARTS[0], 'image_projection': PARTS[0], 'backbone': PARTS[0]}.get(
                top, 'text tower' if top.startswith('text_') else 'decoders, heads'
            )
        counts[part] += parameter.numel()
        counts['all'] += parameter.numel()
        counts['trained'] += parameter.numel() * parameter.requires_grad
    return dict(counts)


def _target_modules(model: nn.Module) -> list[nn.Module]:
    """Teachers, target heads and tokenizers: modules that make targets and are never trained."""
    teachers = [module for module in model.modules() if isinstance(module, (MomentumCopy, FrozenEncoder))]
    tokenizers = [module for name, module in model.named_modules() if name.rpartition('.')[2] == 'tokenizer']
    return [*teachers, *tokenizers]


def _tower_methods(module: nn.Module) -> tuple[str, ...]:
    """The methods by which objectives run an image tower; empty for any other module."""
    if isinstance(module, WholeImageTower):
        return ('features',)
    return ('embed', 'encode') if isinstance(module, ImageTower) else ()


def _label_parts(model: nn.Module, counter: PartFlops) -> list[Any]:
    """Contexts in which the methods of a model name their part to the counter."""

    def inside(target: Any, method: str, part: str | Callable[[], str]) -> Any:
        original = getattr(target, method)

        @functools.wraps(original)
        def labelled(*args, **kwargs):
            with counter.part(part if isinstance(part, str) else part()):
                return original(*args, **kwargs)

        return mock.patch.object(target, method, labelled)

    def tower(first: str, second: str) -> Callable[[], str]:
        """The part of a tower depends on its caller."""

        def choose() -> str:
            if not torch.is_grad_enabled():
                return 'targets'
            return first if counter.current == first else second

        return choose

    image, text = PARTS[0], 'text tower'
    contexts = []
    for target in _target_modules(model):
        for module in (target, *target.children()):
            contexts += [inside(module, method, 'targets') for method in (*_tower_methods(module), 'forward')]
    parts = dict(model.named_children())
    for name, part in (('image_projection', image), ('text_projection', text), ('backbone', image)):
        if name in parts:
            contexts.append(inside(parts[name], 'forward', part))
    if 'image_encoder' in parts:
        for method in _tower_methods(parts['image_encoder']):
            of_caller = tower(image, 'second image pass') if method == 'encode' else image
            contexts.append(inside(parts['image_encoder'], method, of_caller))
        contexts += [inside(BatchViews, name, image) for name in ('image_features', 'encode_together')]
    if 'text_encoder' in parts:
        contexts.append(inside(parts['text_encoder'], 'forward', text))
        for method in ('embed', 'encode'):
            contexts.append(inside(parts['text_encoder'], method, tower(text, 'second text pass')))
    for objective in (module for module in model.modules() if isinstance(module, Objective)):
        for name, loss in objective.named_children():
            if name == 'loss':
                methods = ('forward', 'all_pairs') if isinstance(loss, CodewordLoss) else ('forward',)
                contexts += [inside(loss, method, 'losses') for method in methods]
    return contexts
