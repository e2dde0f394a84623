"""Training with parameters, gradients and optimizer state sharded over processes (FSDP2)."""

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

# Methods that an evaluation calls besides ``forward``, by part of the model; '' is the model itself.
_ENTRY_POINTS = {
    '': ('encode_image', 'encode_text', 'encode_dense'),
    'image_encoder': ('features', 'embed', 'encode', 'dense'),
}


# In mmengine's registry too, because the Runner looks there whatever the config's default scope is.
@ROOT_MODEL_WRAPPERS.register_module()
@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """torch's ``fully_shard`` (FSDP2) for pretraining: ``model_wrapper_cfg=dict(type='FullyShardedModel')``.

    Each process keeps a shard of every parameter, EMA teachers included. A unit gathers its parameters when it runs,
    forward and backward. Every block of the towers and of the teacher is a unit; the embeddings and the objectives
    together are one more. Scalars (temperature, bias) cannot be sharded: each process keeps them, and their gradients
    are averaged.

    mmengine's ``MMFullyShardedDataParallel`` is FSDP1. It refuses CPUs, and it flattens parameters, so that their
    shapes no longer show which of them weight decay applies to. Its state dicts differ from those of one process.

    Here the state dicts of ``module`` and, after :meth:`prepare_optimizer`, of the optimizer hold whole tensors on
    every process. Any run can load them, and this class loads the checkpoint of any run. ``state_dict`` is a collective
    call.

    The constructor initializes the weights before it shards them, equally on all processes. The Runner's own
    initialization then does nothing.

    Args:
        module: The model, not wrapped, on the device where it runs. Its parts are changed in place.

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
        # Otherwise the Runner would initialize the shards again.
        setattr(module, 'init_weights', _do_nothing)  # noqa: B010 (a module, to mypy, has no such method)
        self.module = module
        self._shard()
        module.register_state_dict_post_hook(_whole_state)
        module.register_load_state_dict_pre_hook(_split_state)
        setattr(module, '_gathered', _call)  # noqa: B010 (as above)
        register_fsdp_forward_method(module, '_gathered')
        parts = dict(module.named_modules())
        for path, names in _ENTRY_POINTS.items():
            # Other models have no image_encoder, and a tower of another package has fewer methods.
            part = parts.get(path)
            for name in [name for name in names if name in dir(part)]:
                setattr(part, name, partial(self._enter, getattr(part, name)))

    def _shard(self) -> None:
        parameters = list(self.module.parameters())
        scalars = {parameter for parameter in parameters if parameter.ndim == 0}
        mesh = init_device_mesh(parameters[0].device.type, (dist.get_world_size(),))
        # Decoders of objectives run their blocks in parts, so those are no units.
        lists = [
            part
            for name, part in self.module.named_modules()
            if isinstance(part, nn.ModuleList) and not name.startswith('objectives.')
        ]
        units = [unit for part in lists for unit in part]
        in_units = {parameter for unit in units for parameter in unit.parameters()} | scalars
        self._of_root = next(name for name, parameter in self.module.named_parameters() if parameter not in in_units)
        # The root is resharded, too; otherwise its parameters would stay gathered after an evaluation.
        for unit in (*units, self.module):
            scalars_of_unit = scalars.intersection(unit.parameters())
            fully_shard(unit, mesh=mesh, reshard_after_forward=True, ignored_params=scalars_of_unit)
        for scalar in scalars:
            if scalar.requires_grad:
                scalar.register_post_accumulate_grad_hook(_average)

    def _enter(self, method: Callable, *args, **kwargs) -> Any:
        """Call a method of the model or of a part; outside of ``forward``, gather the root's parameters first."""
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
        """Let an optimizer of this model's parameters save and load states of whole tensors."""
        optimizer.register_state_dict_post_hook(_whole_optimizer_state)
        optimizer.register_load_state_dict_pre_hook(_split_optimizer_state)


def _do_nothing() -> None: ...


def _average(scalar: nn.Parameter) -> None:
    """Average a scalar's gradient over processes, so that the accumulated gradient stays equal on all of them."""
    assert scalar.grad is not None
    dist.all_reduce(scalar.grad)
    scalar.grad.div_(dist.get_world_size())


def _call(function: Callable, *args, **kwargs) -> Any:
    return function(*args, **kwargs)


def _whole(value: Any) -> Any:
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _like(value: Any, parameter: Tensor) -> Any:
    """Shard a tensor like the parameter of its shape; every process of the mesh has the whole tensor."""
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
