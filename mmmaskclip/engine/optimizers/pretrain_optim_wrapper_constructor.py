"""Assigns learning rate and weight decay to parameters, in as few groups as possible."""

from __future__ import annotations

from typing import Any

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mmmaskclip.engine.distributed.fsdp import FullyShardedModel
from mmmaskclip.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PretrainOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer with few groups: no weight decay for vectors and scalars, no frozen parameters.

    A parameter with fewer than two dimensions larger than one (biases, norms, ``logit_scale``, class and mask tokens)
    gets no weight decay. This is OpenCLIP's rule, applied to this package's tokens of shape (1, 1, C).

    mmengine's default constructor does not fit. It makes one group per parameter, so that a fused AdamW step starts
    hundreds of small kernels. Without custom keys it hands frozen parameters (the teacher) to the optimizer; with
    custom keys it warns about each of them.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``.
        paramwise_cfg: ``dict(custom_keys={part of a name: dict(lr_mult=1.0, decay_mult=1.0, **group options)})``. The
            longest key found in a parameter's name wins. ``decay_mult`` overrides the rule above; without it the rule
            stays.

    Raises:
        ValueError: If ``paramwise_cfg`` has another key than ``custom_keys``, a custom key matches no parameter, or the
            model has nothing to train.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        if unknown := set(self.paramwise_cfg) - {'custom_keys'}:
            raise ValueError(
                f'paramwise_cfg has {sorted(unknown)}, but this constructor only knows custom_keys: biases, norms and '
                "other vectors are never decayed. For other rules set constructor='DefaultOptimWrapperConstructor'."
            )

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer over the trainable parameters of ``model`` (wrapped or not) and its wrapper."""
        wrapped: Any = model
        groups = self.param_groups(wrapped.module if is_model_wrapper(model) else model)
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        if isinstance(model, FullyShardedModel):
            model.prepare_optimizer(optimizer)
        return OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, default_args={'optimizer': optimizer})

    def param_groups(self, model: nn.Module) -> list[dict]:
        """Parameter groups of ``model``. The group with the plain learning rate and full decay, if any, is first."""
        custom_keys = self.paramwise_cfg.get('custom_keys', {})
        by_length = sorted(sorted(custom_keys), key=len, reverse=True)
        matched: set[str | None] = set()
        groups: dict[tuple, dict] = {}
        for name, param in model.named_parameters():
            key = next((part for part in by_length if part in name), None)
            matched.add(key)
            if not param.requires_grad:
                continue
            options = self._options(param, custom_keys[key] if key else {})
            identity = tuple(sorted((option, repr(value)) for option, value in options.items()))
            groups.setdefault(identity, {'params': [], **options})['params'].append(param)
        if unmatched := [part for part in custom_keys if part not in matched]:
            raise ValueError(f'paramwise_cfg.custom_keys {unmatched} match no parameter of {type(model).__name__}.')
        if not groups:
            raise ValueError(f'{type(model).__name__} has no parameter with requires_grad=True: nothing to train.')
        ordered = sorted(groups.values(), key=lambda group: not self._is_plain(group))
        for group in ordered:
            size = sum(param.numel() for param in group['params'])
            settings = ', '.join(f'{option}={value}' for option, value in group.items() if option != 'params')
            print_log(f'{len(group["params"])} tensors, {size:,} parameters: {settings}', logger='current')
        return ordered

    def _options(self, param: nn.Parameter, custom: dict) -> dict:
        options = {key: value for key, value in custom.items() if key not in ('lr_mult', 'decay_mult')}
        options['lr'] = self.base_lr * custom.get('lr_mult', 1.0)
        if self.base_wd is not None:
            rule = 0.0 if param.squeeze().ndim < 2 else 1.0
            options['weight_decay'] = self.base_wd * custom.get('decay_mult', rule)
        return options

    def _is_plain(self, group: dict) -> bool:
        return group['lr'] == self.base_lr and group.get('weight_decay') == self.base_wd
