"""Layer-wise learning rate decay: a ViT in a classifier, segmentor or detector, or the towers of image-text models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from mmengine.logging import print_log
from mmpretrain.engine.optimizers import LearningRateDecayOptimWrapperConstructor
from torch import nn

from mmmaskclip.registry import OPTIM_WRAPPER_CONSTRUCTORS

# What comes before the blocks, as ours, mmpretrain's, mmseg's, timm's and OpenCLIP's towers call it.
_TOKENS = r'(?:cls_token|class_embedding|dist_token|registers|reg_token|mask_token|pos_embed|positional_embedding)'
_STEM = re.compile(rf'(?:\w+\.)*?(?:{_TOKENS}|(?:patch_embed|pre_norm|norm_pre|ln_pre|conv1|token_embedding)\..+)')
# What a model may have of them; all others of its parts are as deep as the end of a tower.
_TOWERS = ('backbone', 'image_encoder', 'text_encoder')
_BLOCK = re.compile(r'((?:[a-z]\w*\.)*?(?:layers|blocks|resblocks))\.(\d+)\.(.+)')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """mmpretrain's layer-wise decay for any model with a ViT ``backbone`` or our two towers, and few parameter groups.

    With L blocks the stem (patch embedding, positions, class token, registers, norm before the blocks) has depth 0,
    block i (from 0) depth i + 1, everything else (final norm, neck, heads) depth L + 1, and a parameter at depth d
    learns at ``lr * layer_decay_rate ** (L + 1 - d)`` (BEiT, appendix; the MaskCLIP supplement for its rates).
    Positions, class token and registers are never decayed. Biases, norms and other parameters of at most one dimension
    are not decayed by default.

    mmpretrain's constructor asks the model for the depths, which only its classifiers know, takes ``pre_norm`` for the
    last layer and makes a group of every parameter. mmseg's refuses our tower and decays its positions; mmdet's knows
    only ConvNeXt. This one takes the depths from the backbone (``get_layer_depth``) or from the names of its parameters
    (``layers.N``, ``blocks.N``, ``resblocks.N``), so it also serves the ViTs of mmpretrain, mmseg and timm.

    Args:
        optim_wrapper_cfg: Config of the wrapper with its ``optimizer``, which must say ``lr`` and ``weight_decay``.
        paramwise_cfg: ``layer_decay_rate``, default 1; ``norm_decay_mult``, ``bias_decay_mult`` and
            ``flat_decay_mult``, default 0; and ``custom_keys={part of a name: dict(lr_mult=1.0, decay_mult=1.0)}``, of
            which the longest that is found in a name wins, and replaces these three.

    Raises:
        ValueError: If the optimizer has no ``weight_decay``, ``paramwise_cfg`` has an unknown key, or the model has
            none of ``backbone``, ``image_encoder`` and ``text_encoder``, nothing to train, or a tower whose depths are
            unknown.
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
        """No decay for the backbone's tokens and positions, and for scalars, which mmpretrain does not call flat."""
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
        # Whole names, which are longer than any part of them: the longest key wins.
        self.paramwise_cfg['custom_keys'] = {**custom, **keys}

    def _merge(self, separate: list[dict]) -> list[dict]:
        """One group for equal settings: hundreds of groups are hundreds of small optimizer kernels in each step."""
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
    """The function from a parameter's name to its depth and the number of depths, each tower with its own layers.

    What is in no tower (heads, projections, the temperature) is as deep as the end of the first one.
    """
    depths = {f'{prefix}{name}.': depth_by_name(tower, f'{prefix}{name}.') for name, tower in towers.items()}

    def depth(name: str) -> tuple[int, int]:
        for start, of_tower in depths.items():
            if name.startswith(start):
                return of_tower(name)
        return next(iter(depths.values()))(name)

    return depth


def depth_by_name(backbone: nn.Module, prefix: str) -> Callable[[str], tuple[int, int]]:
    """The function from a parameter's name in the model to its depth and the number of depths.

    Args:
        backbone: The backbone.
        prefix: What the names of its parameters begin with in the model, with the dot.

    Raises:
        ValueError: If the backbone neither tells depths (``get_layer_depth``) nor has exactly one list of blocks.
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
        # Before the backbone's own word: mmpretrain's takes pre_norm for the last layer.
        return (0 if name.startswith(prefix) and _STEM.fullmatch(inside) else found), count

    return depth


def _num_blocks(backbone: str, names: Sequence[str]) -> int:
    blocks = [match for name in names if (match := _BLOCK.fullmatch(name))]
    lists = {match[1] for match in blocks}
    # Stages of blocks, as of a Swin Transformer: the stage alone is no depth.
    if len(lists) != 1 or any(re.match(r'blocks\.\d', match[3]) for match in blocks):
        raise ValueError(
            f'The layers of {backbone} cannot be told for layer-wise decay: it has no get_layer_depth, and its '
            f'parameters ({", ".join(names[:3])}, ...) are not in one list layers.N, blocks.N or resblocks.N. Use a '
            "ViT, or another constructor ('mmmaskclip.PretrainOptimWrapperConstructor')."
        )
    return 1 + max(int(match[2]) for match in blocks)
