"""Checks the input of a person: words, and settings of the models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmmaskclip.demo.photos import Refused
from mmmaskclip.models.backbones.read_outs import READ_OUTS

MOST_WORDS = 24
_LONGEST_WORD = 300
# Range of the shorter side in pixels. SeenModel refuses more patches than MOST_PATCHES.
SIZES = (16, 1024)


def check_words(words: Any) -> tuple[str, ...]:
    """Words or sentences, one map each, without blanks around them.

    Raises:
        Refused: If one is empty, too long or given twice, or there are too many.
    """
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise Refused('The words must be a list of texts.')
    if len(words) > MOST_WORDS:
        raise Refused(f'{len(words)} words are too many for one page: the most is {MOST_WORDS}.')
    words = [' '.join(word.split()) for word in words]
    if not all(words):
        raise Refused('A word is empty: type at least one letter.')
    for word in words:
        if len(word) > _LONGEST_WORD:
            raise Refused(f'"{word[:40]}..." has {len(word)} letters: the most is {_LONGEST_WORD}.')
        if words.count(word) > 1:
            raise Refused(f'"{word}" is given twice.')
    return tuple(words)


@dataclass(frozen=True)
class Settings:
    """How the models look at a photo.

    Attributes:
        read_out: Read-out of the image tower.
        size: Shorter side in pixels at which a model sees the photo; None: the model's own.
        mode: ``'interpolate'``, the photo in one piece, or ``'sliding'``, in windows of the model's own size.
        background: None: every pixel belongs to the word that fits it best. Or a share of the shared scale, 0 its
            lowest value and 1 its highest: a pixel whose best word is below it belongs to none.
    """

    read_out: str = 'patch'
    size: int | None = None
    mode: str = 'interpolate'
    background: float | None = None

    @classmethod
    def read(cls, content: Any) -> Settings:
        """Check the settings that a browser sent.

        Raises:
            Refused: If a value is unknown or out of range.
        """
        given: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
        settings = cls(**{key: given[key] for key in cls.__dataclass_fields__ if key in given})
        if settings.read_out not in READ_OUTS:
            raise Refused(f'There is no read-out {settings.read_out!r}: choose one of {", ".join(READ_OUTS)}.')
        if settings.mode not in ('interpolate', 'sliding'):
            raise Refused(f'There is no mode {settings.mode!r}: choose interpolate or sliding.')
        size, background = settings.size, settings.background
        if size is not None and not (isinstance(size, int) and SIZES[0] <= size <= SIZES[1]):
            raise Refused(f'The resolution {size} does not fit: give {SIZES[0]} to {SIZES[1]} pixels, or none.')
        if background is not None and not (isinstance(background, (int, float)) and 0 <= background <= 1):
            raise Refused(f'The background level {background} does not fit: give a number from 0 to 1, or none.')
        return settings
