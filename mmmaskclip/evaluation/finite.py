"""Refuse NaN and infinity: NaN compares false with everything, so a broken model would win every ranking."""

from collections.abc import Sequence

from torch import Tensor


def check_finite(values: Tensor, keys: Sequence) -> None:
    """Raise an error if any of a model's outputs for a batch is NaN or infinite.

    Args:
        values: (B, ...), features or similarities.
        keys: B names of the samples, for the message.

    Raises:
        ValueError: If an output is not finite. Names the first such sample.
    """
    good = values.isfinite().flatten(1).all(1)
    if not good.all():
        index = int((~good).nonzero()[0])
        raise ValueError(
            f'the model output for sample {keys[index]!r} is not finite ({int((~good).sum())} of {len(good)} '
            'samples of this batch): the weights hold NaN or infinity, or the precision is too low for this model'
        )
