"""Finds the captions of a sample of a tar shard."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmmaskclip.datasets.sampling import BadSample, stable_hash


class CaptionSource(Protocol):
    """Whatever finds or makes the captions of a sample."""

    keys: list[str]
    """Where it looks, as in :class:`CaptionReader`."""

    def __call__(self, files: Mapping[str, bytes]) -> list[str]:
        """Get all captions of a sample; raises BadSample when there are none."""

    def missing(self, files: Mapping[str, bytes]) -> str | None:
        """Say what is wrong with a sample's keys, or None."""


class CaptionReader:
    """Reads captions from the files of a sample.

    Args:
        keys: Where to look, one or several of ``'txt'`` (a text file with one caption; any other extension works too)
            and ``'json:FIELD'`` (a field of the JSON file: a string, or a list of strings). All captions found under
            all keys count.
    """

    def __init__(self, keys: str | Sequence[str]) -> None:
        self.keys = [keys] if isinstance(keys, str) else list(keys)
        if not self.keys:
            raise ValueError("caption_key is empty; give e.g. 'txt' or 'json:captions'")

    def __call__(self, files: Mapping[str, bytes]) -> list[str]:
        """Get the captions that are not blank, without repetition.

        Args:
            files: Extension to content.

        Raises:
            BadSample: ``missing_caption`` (no key is there), ``empty_caption`` or ``broken_json``.
        """
        found = self._found(files)
        captions = list(dict.fromkeys(text for text in map(_one_line, found) if text))
        if not captions:
            raise BadSample('empty_caption', f'{found[0]!r}')
        return captions

    def every(self, files: Mapping[str, bytes]) -> list[str]:
        """Get all captions as they are, repetitions too: in retrieval each of them is a query of its own.

        Args:
            files: Extension to content.

        Raises:
            BadSample: As for a call, and ``empty_caption`` if any of them is blank.
        """
        found = self._found(files)
        captions = [_one_line(value) for value in found]
        if '' in captions:
            number = captions.index('')
            raise BadSample('empty_caption', f'caption {number + 1} of {len(found)} is {found[number]!r}')
        return captions

    def missing(self, files: Mapping[str, bytes]) -> str | None:
        """Say what is wrong with a sample's keys, for the check before training; None when a caption key is there."""
        try:
            self(files)
        except BadSample as bad:
            return bad.detail if bad.cause == 'missing_caption' else None
        return None

    def _found(self, files: Mapping[str, bytes]) -> list[Any]:
        found = [value for key in self.keys for value in self._values(key, files)]
        if not found:
            raise BadSample('missing_caption', f'no {" or ".join(self.keys)} among {", ".join(sorted(files))}')
        return found

    @staticmethod
    def _values(key: str, files: Mapping[str, bytes]) -> list[Any]:
        extension, _, field = key.partition(':')
        content = files.get(extension)
        if content is None:
            return []
        if not field:
            return [content.decode('utf-8', 'replace')]
        try:
            values = json.loads(content)
        except ValueError as error:
            raise BadSample('broken_json', str(error)) from error
        if not isinstance(values, dict) or field not in values:
            return []
        return values[field] if isinstance(values[field], list) else [values[field]]


def _one_line(value: Any) -> str:
    return ' '.join(value.split()) if isinstance(value, str) else ''


def choose_caption(captions: Sequence[str], seed: int) -> str:
    """Pick one caption, each with the same chance, as the seed of the sample says."""
    return captions[stable_hash(seed, 'caption') % len(captions)]
