"""Text positions for captions longer than those that the weights were trained on."""

from typing import Any

import torch
from torch import Tensor

# Long-CLIP: captions of CLIP's training are mostly shorter, so that these positions are trained well.
KEPT = 20


def stretch_positions(positions: Tensor, length: int, keep: int = KEPT) -> Tensor:
    """Text positions for longer captions (Long-CLIP, Zhang et al. 2024, section 3.1: knowledge-preserved stretching).

    The first ``keep`` stay as they are. The others are put ``(length - keep) / (L - keep)`` apart and interpolated
    linearly between; behind the last one the line through the last two goes on. 77 positions give 248 at four times the
    distance, as in the paper.

    Args:
        positions: (L, C).
        length: How many there shall be, at least L.
        keep: How many stay. Defaults to 20.

    Returns:
        (length, C).

    Raises:
        ValueError: If ``length`` is less than L, or L not more than ``keep + 1``.
    """
    old = len(positions)
    if length < old or old < keep + 2:
        raise ValueError(f'{old} text positions cannot be stretched to {length} with the first {keep} kept')
    places = keep + torch.arange(length - keep, dtype=torch.float64) * (old - keep) / (length - keep)  # in the old ones
    left = places.floor().long().clamp(max=old - 2)
    share = (places - left).unsqueeze(1).to(positions)  # (length - keep, 1)
    stretched = positions[left] * (1 - share) + positions[left + 1] * share
    return torch.cat((positions[:keep], stretched))


def stretch_to_model(model: Any, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Stretch the text positions of a state dict where the text tower of ``model`` asks for it and has more."""
    name, tower = 'text_encoder.pos_embed', dict(model.named_children()).get('text_encoder')
    given = state_dict.get(name)
    if given is None or not getattr(tower, 'stretch_positions', False) or len(given) >= tower.context_length:
        return state_dict
    return {**state_dict, name: stretch_positions(given, tower.context_length)}
