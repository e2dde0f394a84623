"""Duplicates in a batch: pairs with the same image or the same caption, which must not be each other's negatives."""

from collections.abc import Sequence

from torch import Tensor

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.noise import caption_ids

KINDS = ('image', 'caption')


def check_duplicates(duplicates: Sequence[str]) -> tuple[str, ...]:
    """Return ``duplicates``, or raise ValueError if one of them is not in :data:`KINDS`."""
    if isinstance(duplicates, str) or not {*duplicates} <= {*KINDS}:
        raise ValueError(f"duplicates={duplicates!r}: give a list of 'image' and 'caption', or leave it out")
    return tuple(duplicates)


def duplicate_labels(views: Views, duplicates: Sequence[str]) -> list[Tensor]:
    """One class per pair and kind, int64 (B,) each; pairs that agree in one belong together.

    Args:
        views: The views of a batch.
        duplicates: ``'image'``, the number that the dataset gives to the image's file, and ``'caption'``.

    Raises:
        KeyError: If the dataset does not number the files of its images.
    """
    return [caption_ids(views.word_ids()) if kind == 'caption' else views.labels('image_id') for kind in duplicates]
