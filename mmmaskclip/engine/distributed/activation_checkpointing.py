"""Trade a second forward pass of some modules for the memory of their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mmengine.logging import print_log
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmmaskclip.contracts import ImageTower, TextTower
from mmmaskclip.utils.nearest import did_you_mean


def turn_on_activation_checkpointing(model: nn.Module, modules: str | Sequence[str]) -> None:
    """Store only the inputs of these modules; the backward pass computes their activations again.

    Both passes drop the same paths (stochastic depth), so the gradients are the same. mmengine's function of this name
    uses torch's reentrant checkpoint, which torch advises against: with it DDP raises ("Expected to mark a variable
    ready only once") when a module runs twice in a step, as the image tower does for the masked pass.

    Args:
        model: The model, not wrapped.
        modules: Names of modules whose ``forward`` runs in training. The name of a ``ModuleList`` stands for all its
            modules: ``['image_encoder.layers', 'text_encoder.layers']`` are all blocks of both towers.

    Raises:
        TypeError: If ``modules`` are not names.
        ValueError: If the model has no such module. Or if pretraining calls other methods of the module than
            ``forward``, because then no memory would be saved.
    """
    names = [modules] if isinstance(modules, str) else modules
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"activation_checkpointing={modules!r}: give names of modules, such as ['image_encoder.layers']; to save "
            'nothing, leave it out'
        )
    for name in names:
        module = _find(model, name)
        parts = list(module) if isinstance(module, nn.ModuleList | nn.Sequential) else [module]
        if not isinstance(module, nn.ModuleList) and isinstance(module, (ImageTower, TextTower)):
            raise ValueError(
                f'activation_checkpointing: {name!r} ({type(module).__name__}) is run in parts in pretraining, so that '
                f"nothing would be saved: name its blocks, '{name}.layers'"
            )
        for part in parts:
            part.forward = partial(_checkpointed, part.forward)
        print_log(f'Activation checkpointing: {name} ({len(parts)} modules).', 'current')


def _find(model: nn.Module, name: str) -> nn.Module:
    names = [known for known, _ in model.named_modules()]
    if name not in names:
        hint = did_you_mean(name, names)
        raise ValueError(f'activation_checkpointing: {type(model).__name__} has no module {name!r}.{hint}')
    return model.get_submodule(name)


def _checkpointed(forward: Callable, *args, **kwargs):
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)
