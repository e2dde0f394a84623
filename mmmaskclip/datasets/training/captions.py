"""Finds the captions of a sample of a tar shard."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mmmaskclip.datasets.sampling import BadSample, stable_hash
from mmmaskclip.datasets.text_files import parse_json
from mmmaskclip.datasets.transforms.tokenize import is_blank


class CaptionSource(Protocol):
    """Finds or makes the captions of a sample."""

    keys: list[str]
    """Places of the captions, as in :class:`CaptionReader`."""

    def __call__(self, files: Mapping[str, bytes]) -> list[str]:
        """Return all captions of a sample; raise BadSample if there are none."""

    def missing(self, files: Mapping[str, bytes]) -> str | None:
        """Describe the fault of a sample's keys; None if there is none."""


class CaptionReader:
    """Reads captions from the files of a sample.

    Args:
        keys: Where to look, one or several of ``'txt'`` (a text file that is one caption; any other extension works
            too), ``'txt:lines'`` (a text file with one caption a line) and ``'json:FIELD'`` (a field of the JSON file:
            a string, or a list of strings). All captions found under all keys count.
    """

    def __init__(self, keys: str | Sequence[str]) -> None:
        self.keys = [keys] if isinstance(keys, str) else list(keys)
        if not self.keys:
            raise ValueError("caption_key is empty; give e.g. 'txt' or 'json:captions'")

    def __call__(self, files: Mapping[str, bytes]) -> list[str]:
        """Return the captions that are not blank, without repetition.

        Args:
            files: Extension to content.

        Raises:
            BadSample: ``missing_caption`` (the sample has none of the keys), ``empty_caption``, ``not_utf8`` or
                ``broken_json``.
        """
        found = self._found(files)
        captions = list(dict.fromkeys(text for text in map(_one_line, found) if not is_blank(text)))
        if not captions:
            raise BadSample('empty_caption', f'{found[0]!r}')
        return captions

    def every(self, files: Mapping[str, bytes]) -> list[str]:
        """Return all captions, with repetitions, because in retrieval each of them is a query.

        Args:
            files: Extension to content.

        Raises:
            BadSample: As for a call; ``empty_caption`` if any of them is blank; ``several_lines`` if a text file that
                should be one caption has several lines.
        """
        found = self._found(files)
        for number, value in enumerate(found, 1):
            if is_blank(_one_line(value)):
                raise BadSample('empty_caption', f'caption {number} of {len(found)} is {value!r}')
        for key in self.keys:
            lines = [] if ':' in key else _decode(files.get(key, b'')).strip().splitlines()
            if len(lines) > 1:
                raise BadSample(
                    'several_lines',
                    f"{len(lines)} lines in .{key}. Set caption_key='{key}:lines' if each is a caption of its own; if "
                    'all are one caption, write it in one line',
                )
        return [_one_line(value) for value in found]

    def missing(self, files: Mapping[str, bytes]) -> str | None:
        """Describe the fault of a sample's keys, for the check before training; None if a caption key is present."""
        try:
            self(files)
        except BadSample as bad:
            return bad.detail if bad.cause == 'missing_caption' else None
        return None

    def _found(self, files: Mapping[str, bytes]) -> list[Any]:
        found = [value for key in self.keys for value in self._values(key, files)]
        if not found:
            raise BadSample('missing_caption', f'no {" or ".join(self.keys)} among {listed(files)}')
        return found

    @staticmethod
    def _values(key: str, files: Mapping[str, bytes]) -> list[Any]:
        extension, _, field = key.partition(':')
        content = files.get(extension)
        if content is None:
            return []
        if not field:
            return [_decode(content)]
        if field == 'lines' and extension != 'json':
            return [line for line in _decode(content).splitlines() if line.strip()]
        values = parse_json(content)
        if not isinstance(values, dict) or field not in values:
            return []
        return values[field] if isinstance(values[field], list) else [values[field]]


def listed(files: Mapping[str, Any]) -> str:
    """List the extensions of a sample for an error, with a hint on dots in names, a common cause."""
    names = ', '.join(sorted(files)) or 'no other file'
    if any('.' in name for name in files):
        names += ' (a name ends at its first dot: rename files with dots in their names)'
    return names


def _decode(content: bytes) -> str:
    try:
        return content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise BadSample('not_utf8', f'{content[:60]!r}: save captions as UTF-8') from error


def _one_line(value: Any) -> str:
    return ' '.join(value.split()) if isinstance(value, str) else ''


def choose_caption(captions: Sequence[str], seed: int) -> str:
    """Pick one caption, uniformly, by the seed of the sample."""
    return captions[stable_hash(seed, 'caption') % len(captions)]
