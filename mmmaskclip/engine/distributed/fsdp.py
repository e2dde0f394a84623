"""Training with the parameters, their gradients and the optimizer's state split over processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from mmengine.optim import OptimWrapper
from mmengine.registry import MODEL_WRAPPERS as ROOT_MODEL_WRAPPERS
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from mmmaskclip.registry import MODEL_WRAPPERS

# Methods that the evaluation calls beside ``forward``, by part of the model: '' is the model itself.
_ENTRY_POINTS = {
    '': ('encode_image', 'encode_text', 'encode_dense'),
    'image_encoder': ('features', 'embed', 'encode', 'dense'),
}


# In mmengine's registry too, because the Runner looks there whatever the config's default scope is.
@ROOT_MODEL_WRAPPERS.register_module()
@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """torch's ``fully_shard`` (FSDP2) for pretraining: ``model_wrapper_cfg=dict(type='FullyShardedModel')``.

    Each process keeps its part of every parameter, EMA teachers included, and gathers a block's when it runs, forward
    and backward. The blocks of the towers and of the teacher are such units; all else (embeddings, objectives) is one
    more. Scalars (temperature, bias), which cannot be split, stay whole; their gradients are averaged.

    mmengine's ``MMFullyShardedDataParallel`` is FSDP1, which refuses CPUs and flattens parameters, so that a shape does
    not tell what is decayed; and neither its state dict nor its optimizer's are those of one process.

    The state dicts of ``module`` and, after :meth:`prepare_optimizer`, of the optimizer are those of a model that is
    not split, on every process: any run can load them, and a checkpoint of any run can be loaded here. Taking one is a
    collective call.

    The weights are initialized here, before they are split, and equal on all processes; the Runner's initialization
    does nothing any more.

    Args:
        module: The model, on the device where it is to run, not wrapped. Its parts are changed in place.

    Raises:
        RuntimeError: If there is no process group.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        if not dist.is_initialized():
            raise RuntimeError(
                "model_wrapper_cfg.type='FullyShardedModel' needs several processes: start them with "
                '--launcher pytorch or slurm, or leave it out'
            )
        module.init_weights()
        for value in module.state_dict().values():
            dist.broadcast(value, 0)
        # Or the Runner would do it again, on the parts.
        setattr(module, 'init_weights', _do_nothing)  # noqa: B010 (a module, to mypy, has no such method)
        self.module = module
        self._shard()
        module.register_state_dict_post_hook(_whole_state)
        module.register_load_state_dict_pre_hook(_split_state)
        setattr(module, '_gathered', _call)  # noqa: B010 (as above)
        register_fsdp_forward_method(module, '_gathered')
        for path, names in _ENTRY_POINTS.items():
            part = _part(module, path)
            for name in names:
                if hasattr(part, name):
                    setattr(part, name, partial(self._enter, getattr(part, name)))

    def _shard(self) -> None:
        parameters = list(self.module.parameters())
        scalars = {parameter for parameter in parameters if parameter.ndim == 0}
        mesh = init_device_mesh(parameters[0].device.type, (dist.get_world_size(),))
        # Not of the objectives, whose decoders run their blocks in parts.
        lists = [
            part
            for name, part in self.module.named_modules()
            if isinstance(part, nn.ModuleList) and not name.startswith('objectives.')
        ]
        units = [unit for part in lists for unit in part]
        in_units = {parameter for unit in units for parameter in unit.parameters()} | scalars
        self._of_root = next(name for name, parameter in self.module.named_parameters() if parameter not in in_units)
        # The root too, or whoever asks for parameters after an evaluation would get those that were gathered for it.
        for unit in (*units, self.module):
            own = scalars.intersection(unit.parameters())
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, ignored_params=own)
        for scalar in scalars:
            if scalar.requires_grad:
                scalar.register_post_accumulate_grad_hook(_average)

    def _enter(self, method: Callable, *args, **kwargs) -> Any:
        """Call a method of the model or a part of it; from outside of ``forward``, gather what it needs first."""
        outside = isinstance(self.module.get_parameter(self._of_root), DTensor)
        return self.module._gathered(method, *args, **kwargs) if outside else method(*args, **kwargs)

    def forward(self, *args, **kwargs) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """One training step of the model; returns what is to be logged."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: dict) -> list:
        """Predictions for a batch."""
        return self.module.val_step(data)

    def test_step(self, data: dict) -> list:
        """Predictions for a batch."""
        return self.module.test_step(data)

    def prepare_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Let an optimizer of this model's parameters save and load states that are not split."""
        optimizer.register_state_dict_post_hook(_whole_optimizer_state)
        optimizer.register_load_state_dict_pre_hook(_split_optimizer_state)


def _do_nothing() -> None: ...


def _average(scalar: nn.Parameter) -> None:
    """Average a gradient over processes. What accumulated in it before is equal on all, and stays so."""
    assert scalar.grad is not None
    dist.all_reduce(scalar.grad)
    scalar.grad.div_(dist.get_world_size())


def _part(module: nn.Module, path: str) -> nn.Module | None:
    return getattr(module, path, None) if path else module


def _call(function: Callable, *args, **kwargs) -> Any:
    return function(*args, **kwargs)


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _like(value: Any, parameter: Tensor) -> Any:
    """Split a tensor as a parameter of its shape is; the mesh's processes all have the whole of it."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    value = value.to(parameter.device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _whole_state(module: nn.Module, state: dict, prefix: str, metadata: dict) -> None:
    for name, value in state.items():
        state[name] = _whole(value)


def _split_state(module: nn.Module, state: dict, prefix: str, *_) -> None:
    for name, parameter in module.named_parameters(prefix.removesuffix('.')):
        if name in state:
            state[name] = _like(state[name], parameter)


def _whole_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    whole = {index: {name: _whole(value) for name, value in of_one.items()} for index, of_one in state['state'].items()}
    return {**state, 'state': whole}


def _split_optimizer_state(optimizer: torch.optim.Optimizer, state: dict) -> dict:
    parameters = [parameter for group in optimizer.param_groups for parameter in group['params']]
    indices = [index for group in state['param_groups'] for index in group['params']]
    split = {}
    for index, parameter in zip(indices, parameters, strict=True):
        if index in state['state']:
            split[index] = {name: _like(value, parameter) for name, value in state['state'][index].items()}
    return {**state, 'state': split}
