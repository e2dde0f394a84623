"""Layer-wise learning rate decay: a ViT in a classifier, segmentor or detector, or the towers of image-text models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from mmengine.logging import print_log
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmmaskclip.registry import OPTIM_WRAPPER_CONSTRUCTORS

# Names of what comes before the blocks, in towers of this package, mmpretrain, mmseg, timm and OpenCLIP.
_TOKENS = r'(?:cls_token|class_embedding|dist_token|registers|reg_token|mask_token|pos_embed|positional_embedding)'
_STEM = re.compile(rf'(?:\w+\.)*?(?:{_TOKENS}|(?:patch_embed|pre_norm|norm_pre|ln_pre|conv1|token_embedding)\..+)')
# Names of a model's towers. All its other parts have the depth of the end of a tower.
_TOWERS = ('backbone', 'image_encoder', 'text_encoder')
_BLOCK = re.compile(r'((?:[a-z]\w*\.)*?(?:layers|blocks|resblocks))\.(\d+)\.(.+)')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay for any model with a ViT ``backbone`` or our two towers, and few parameter groups.

    A tower with L blocks has the depths 0 to L + 1. The stem (patch embedding, positions, class token, registers, norm
    before the blocks) has depth 0. Block i, counted from 0, has depth i + 1. Everything else (final norm, neck, heads)
    has depth L + 1. The learning rate at depth d is ``lr * layer_decay_rate ** (L + 1 - d)`` (BEiT, appendix; the
    MaskCLIP supplement gives its rates). Positions, class token and registers never get weight decay. By default,
    biases, norms and other parameters of at most one dimension get none either.

    The constructor takes the depths from the backbone (``get_layer_depth``) or from its parameters' names
    (``layers.N``, ``blocks.N``, ``resblocks.N``). It therefore also works for the ViTs of mmpretrain, mmseg and timm.
    Their own constructors do not: mmpretrain's asks the whole model for the depths, which only its classifiers know,
    treats ``pre_norm`` as the last layer, and makes a group for every parameter. mmseg's refuses this package's tower
    and applies weight decay to its positions. mmdet's supports only ConvNeXt.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``, which must say ``lr`` and ``weight_decay``.
        paramwise_cfg: ``layer_decay_rate``, default 1; ``norm_decay_mult``, ``bias_decay_mult`` and
            ``flat_decay_mult``, default 0; and ``custom_keys={part of a name: dict(lr_mult=1.0, decay_mult=1.0)}``. The
            longest key that occurs in a parameter's name counts, in place of these three.

    Raises:
        ValueError: If the optimizer has no ``weight_decay``; if ``paramwise_cfg`` has an unknown key; or if the model
            has no tower (``backbone``, ``image_encoder``, ``text_encoder``), no parameter to train, or a tower whose
            depths cannot be found.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        no_decay = dict.fromkeys(('norm_decay_mult', 'bias_decay_mult', 'flat_decay_mult'), 0.0)
        known = {*no_decay, 'layer_decay_rate', 'custom_keys'}
        if unknown := set(paramwise_cfg or {}) - known:
            raise ValueError(f'paramwise_cfg has {sorted(unknown)}, but layer decay only knows {sorted(known)}.')
        super().__init__(optim_wrapper_cfg, {'layer_decay_rate': 1.0, **no_decay, **(paramwise_cfg or {})})

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        get_layer_depth: Callable[[str], tuple[int, int]] | None = None,
        **kwargs,
    ) -> None:
        """Append the parameter groups of ``module`` to ``params``, one for each learning rate and weight decay."""
        if get_layer_depth is not None:
            super().add_params(params, module, prefix, get_layer_depth, **kwargs)
            return
        parts = dict(module.named_children())
        towers = {name: parts[name] for name in _TOWERS if name in parts}
        if not towers:
            raise ValueError(
                f'{type(module).__name__} has no {" or ".join(_TOWERS)}, so there are no layers for layer-wise decay.'
            )
        self._keep_tokens(module)
        separate: list[dict] = []
        super().add_params(separate, module, prefix, depth_in_towers(towers, prefix), **kwargs)
        if not separate:
            raise ValueError(f'{type(module).__name__} has no parameter with requires_grad=True: nothing to train.')
        params.extend(self._merge(separate))

    def _keep_tokens(self, model: nn.Module) -> None:
        """Exclude the backbone's tokens and positions from weight decay, and scalars, which mmpretrain does not."""
        custom = self.paramwise_cfg.get('custom_keys', {})
        keys = {
            # mmengine uses only the longest matching key, so copy what the user's key says.
            name: {
                **custom.get(max((key for key in custom if key in name), key=len, default=''), {}),
                'decay_mult': 0.0,
            }
            for name, param in model.named_parameters()
            if param.ndim == 0
            or (name.startswith(tuple(f'{tower}.' for tower in _TOWERS)) and re.fullmatch(_TOKENS, name.split('.')[-1]))
        }
        # These keys are whole names, hence longer than any other key in the name: the longest key counts.
        self.paramwise_cfg['custom_keys'] = {**custom, **keys}

    def _merge(self, separate: list[dict]) -> list[dict]:
        """Merge groups of equal settings. Hundreds of groups would start hundreds of small kernels in each step."""
        merged: dict[tuple, dict] = {}
        for group in separate:
            (param,), name = group.pop('params'), group.pop('param_name')
            lr_mult = group.pop('lr_mult', 1.0)
            group['lr'] *= lr_mult
            group['lr_scale'] *= lr_mult
            identity = tuple(sorted((option, repr(value)) for option, value in group.items()))
            into = merged.setdefault(identity, {'params': [], 'parameters': [], **group})
            into['params'].append(param)
            into['parameters'].append(name)
        groups = sorted(merged.values(), key=lambda group: (group['layer_id'], group['weight_decay']))
        print_log(
            f'Layer-wise decay {self.paramwise_cfg["layer_decay_rate"]}: {len(separate)} tensors in {len(groups)} '
            f'groups, lr {groups[0]["lr"]:.3g} (depth {groups[0]["layer_id"]}) to {groups[-1]["lr"]:.3g} '
            f'(depth {groups[-1]["layer_id"]}), weight decay 0 for '
            f'{sum(len(group["params"]) for group in groups if not group["weight_decay"])} tensors.',
            logger='current',
        )
        return groups


def depth_in_towers(towers: Mapping[str, nn.Module], prefix: str) -> Callable[[str], tuple[int, int]]:
    """A function that maps a parameter's name to its depth and the number of depths of its tower.

    Parameters in no tower (heads, projections, the temperature) have the depth of the end of the first tower.
    """
    depths = {f'{prefix}{name}.': depth_by_name(tower, f'{prefix}{name}.') for name, tower in towers.items()}

    def depth(name: str) -> tuple[int, int]:
        for start, of_tower in depths.items():
            if name.startswith(start):
                return of_tower(name)
        return next(iter(depths.values()))(name)

    return depth


def depth_by_name(backbone: nn.Module, prefix: str) -> Callable[[str], tuple[int, int]]:
    """A function that maps a parameter's name in the model to its depth and the number of depths.

    Args:
        backbone: The backbone.
        prefix: The prefix of its parameters' names in the model, with the dot.

    Raises:
        ValueError: If the backbone has no ``get_layer_depth``, and not exactly one list of blocks.
    """
    own = getattr(backbone, 'get_layer_depth', None)
    names = [name for name, _ in backbone.named_parameters()]
    num_depths = 0 if own else _num_blocks(type(backbone).__name__, names) + 2

    def depth(name: str) -> tuple[int, int]:
        inside = name.removeprefix(prefix)
        if own:
            found, count = own(name, prefix)
        else:
            block = _BLOCK.fullmatch(inside) if name.startswith(prefix) else None
            found, count = (int(block[2]) + 1 if block else num_depths - 1), num_depths
        # The stem by its names, before asking the backbone: mmpretrain's backbone treats pre_norm as the last layer.
        return (0 if name.startswith(prefix) and _STEM.fullmatch(inside) else found), count

    return depth


def _num_blocks(backbone: str, names: Sequence[str]) -> int:
    blocks = [match for name in names if (match := _BLOCK.fullmatch(name))]
    lists = {match[1] for match in blocks}
    # Stages of blocks, as in a Swin Transformer: the number of the stage alone is not a depth.
    if len(lists) != 1 or any(re.match(r'blocks\.\d', match[3]) for match in blocks):
        raise ValueError(
            f'Layer-wise decay cannot find the layers of {backbone}: it has no get_layer_depth, and its '
            f'parameters ({", ".join(names[:3])}, ...) are not in one list layers.N, blocks.N or resblocks.N. Use a '
            "ViT, or another constructor ('mmmaskclip.PretrainOptimWrapperConstructor')."
        )
    return 1 + max(int(match[2]) for match in blocks)
