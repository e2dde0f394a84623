"""Low-rank adapters (LoRA) in a state dict: told by their names, and merged into the weights that they adapt."""

from collections.abc import Iterable, Mapping

from torch import Tensor

_PARTS = ('lora_down', 'lora_up', 'lora_scale')


def is_adapter(name: str) -> bool:
    """Whether a name of a state dict is of an adapter."""
    return name.rpartition('.')[2] in _PARTS


def has_adapters(names: Iterable[str]) -> bool:
    """Whether one of the names is of an adapter."""
    return any(map(is_adapter, names))


def merge_adapters(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of the model without adapters that computes the same; without adapters the same weights.

    Args:
        state_dict: Weights by name, under any prefix.

    Raises:
        ValueError: If a part of an adapter, or the weight that it adapts, is missing.
    """
    merged = {name: value for name, value in state_dict.items() if not is_adapter(name)}
    for layer in {name.rpartition('.')[0] for name in state_dict if is_adapter(name)}:
        names = [f'{layer}.{part}' for part in ('weight', *_PARTS)]
        if missing := [name for name in names if name not in state_dict]:
            raise ValueError(f'the adapter of {layer} lacks {", ".join(missing)}: the file is no whole checkpoint')
        weight, down, up, scale = (state_dict[name] for name in names)
        # In float64, so that merging rounds once.
        merged[names[0]] = (weight.double() + scale.double() * up.double() @ down.double()).to(weight.dtype)
    return merged
