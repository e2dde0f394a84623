"""The one sentence of every error that knows what may have been meant."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Name what a misspelled word resembles.

    Args:
        word: What was found.
        names: What is valid.
        most: Names to give, at the most, the nearest first.
        cutoff: Least similarity (``difflib``), from 0 to 1.

    Returns:
        ``' Did you mean lr or lrs?'`` with the space before it, or nothing where no name is near.
    """
    return meant(difflib.get_close_matches(word, list(names), n=most, cutoff=cutoff))


def meant(names: list[str]) -> str:
    """The same sentence for names that are known to be near; nothing without one."""
    return f' Did you mean {" or ".join(names)}?' if names else ''
