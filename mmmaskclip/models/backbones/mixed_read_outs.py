"""Several read-outs at once: the similarity with a text is their weighted mean."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmmaskclip.models.backbones.read_outs import ReadOut, find_read_out

ReadOuts = ReadOut | Sequence[ReadOut]


def weighted_read_outs(read_outs: ReadOuts) -> list[tuple[float, ReadOut]]:
    """Read-outs with their weights, which sum to 1.

    The tower's output sees a shape through the patches around, ``'value'`` keeps the place. Their mean has both.

    Args:
        read_outs: One read-out, or several. Each of several may have the option ``weight``, a positive number that
            defaults to 1: ``[dict(name='patch', weight=3), 'value']``.

    Raises:
        ValueError: If there is none, a weight is not positive, or a read-out or one of its options is unknown.
    """
    if isinstance(read_outs, str | Mapping):
        find_read_out(read_outs)
        return [(1.0, read_outs)]
    parts: list[dict[str, Any]] = [dict(name=part) if isinstance(part, str) else dict(part) for part in read_outs]
    if not parts:
        raise ValueError("read_out=[] names no read-out: leave it out, or give e.g. ['patch', 'value']")
    weights = [float(part.pop('weight', 1)) for part in parts]
    for part, weight in zip(parts, weights, strict=True):
        find_read_out(part)
        if weight <= 0:
            raise ValueError(f'read_out {part["name"]!r} has weight={weight:g}: give a positive one, or leave it out')
    return [(weight / sum(weights), part) for part, weight in zip(parts, weights, strict=True)]
