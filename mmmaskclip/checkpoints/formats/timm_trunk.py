"""Names of OpenCLIP's image towers that are timm's ViTs, translated to those of ``TimmTower`` and its heads."""

from collections.abc import Mapping

from torch import Tensor, cat

_POOL = {
    'attn_pool.latent': 'query',
    'attn_pool.proj.': 'attention.out_proj.',
    'attn_pool.norm.': 'norm.',
    'attn_pool.mlp.fc1.': 'mlp.0.',
    'attn_pool.mlp.fc2.': 'mlp.2.',
    'head.': 'projection.',
}
_PREFIX = 'visual.trunk.'


def is_trunk(state_dict: dict[str, Tensor]) -> bool:
    """Whether names are of such a model."""
    return any(name.startswith(_PREFIX) for name in state_dict)


def convert_trunk(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the image tower under our names; pool and projection are the image projection's.

    Raises:
        KeyError: If a name is of a pool or projection that cannot be built here.
    """
    converted = {}
    for name, value in state_dict.items():
        if not name.startswith('visual.'):
            continue
        if name in ('visual.head.proj.weight', 'visual.head.proj.bias'):
            converted[name.replace('visual.head.proj', 'image_projection.projection')] = value
            continue
        if not name.startswith(_PREFIX):
            raise KeyError(f'{name!r} is no weight of a ViT of timm with one projection; only those can be converted')
        inner = name.removeprefix(_PREFIX)
        if inner.startswith(('attn_pool.q.', 'attn_pool.kv.')):
            # torch's attention, in which query, key and value are one matrix.
            kind = inner.rpartition('.')[2]
            joined = cat([state_dict[f'{_PREFIX}attn_pool.{part}.{kind}'] for part in ('q', 'kv')])
            converted[f'image_projection.attention.in_proj_{kind}'] = joined
            continue
        for theirs, ours in _POOL.items():
            if inner == theirs or (theirs.endswith('.') and inner.startswith(theirs)):
                converted[f'image_projection.{inner.replace(theirs, ours, 1)}'] = value
                break
        else:
            if inner.startswith(('fc_norm.', 'attn_pool.')):
                raise KeyError(f'{name!r} is of a pool that cannot be built here')
            converted[f'image_encoder.trunk.{inner}'] = value
    return converted


def trunk_weights(trunk: Mapping[str, Tensor], pool: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The other way: the weights of timm's model, with its pool by attention.

    Args:
        trunk: Of ``TimmTower``, by their names below ``trunk``.
        pool: Of the image projection, by their names below it, without the projection; empty for a class token.
    """
    weights = dict(trunk)
    for name, value in pool.items():
        if name.startswith('attention.in_proj_'):
            kind = name.rpartition('_')[2]
            parts = value.chunk(3)
            weights[f'attn_pool.q.{kind}'], weights[f'attn_pool.kv.{kind}'] = parts[0], cat(parts[1:])
            continue
        for theirs, ours in _POOL.items():
            if name == ours or (ours.endswith('.') and name.startswith(ours)):
                weights[name.replace(ours, theirs, 1)] = value
    return weights
