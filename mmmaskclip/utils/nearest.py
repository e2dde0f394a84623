"""The sentence "Did you mean ...?" at the end of error messages."""

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, names: Iterable[str], most: int = 1, cutoff: float = 0.6) -> str:
    """Name the valid names that a misspelled word resembles.

    Args:
        word: The misspelled word.
        names: The valid names.
        most: Largest number of names in the sentence; the nearest comes first.
        cutoff: Least similarity (``difflib``), from 0 to 1.

    Returns:
        ``' Did you mean lr or lrs?'``, with the space before it; an empty string if no name is near.
    """
    return meant(difflib.get_close_matches(word, list(names), n=most, cutoff=cutoff))


def meant(names: list[str]) -> str:
    """The same sentence for names that are already known to be near; an empty string without names."""
    return f' Did you mean {" or ".join(names)}?' if names else ''
