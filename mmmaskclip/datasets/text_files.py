"""Reads the text files that people write or export: lists, class names, prompts."""

import json
import os
from collections.abc import Iterator
from typing import Any

from mmmaskclip.datasets.sampling import BadSample


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    """Read a text file in UTF-8, with or without a byte order mark, line by line; every line ends with ``\\n``.

    Raises:
        ValueError: The file is not in UTF-8; names the file, the line, and the remedy.
    """
    try:
        with open(path, encoding='utf-8-sig') as file:
            yield from file
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path)) from error


def read_text(path: str | os.PathLike) -> str:
    """Read a text file as :func:`read_lines` does, in one piece."""
    return ''.join(read_lines(path))


def _not_utf8(path: str | os.PathLike) -> str:
    with open(path, 'rb') as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode('utf-8')
            except UnicodeDecodeError as error:
                found = f'line {number} is not UTF-8 (byte {line[error.start]:#x})'
                break
        else:
            found = 'not UTF-8'
    return f'{path}: {found}. Save the file as UTF-8, e.g. iconv -f WINDOWS-1252 -t UTF-8 (Excel: "CSV UTF-8")'


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: The file is not in UTF-8, or no JSON; names the file.
    """
    try:
        return parse_json(read_text(path))
    except BadSample as bad:
        raise ValueError(f'{path}: {bad}') from bad


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from outside.

    Raises:
        BadSample: ``not_utf8`` or ``broken_json``, for any error of the parser.
    """
    try:
        return json.loads(text)
    except MemoryError:
        raise
    except UnicodeDecodeError as error:
        raise BadSample('not_utf8', str(error)) from error
    except Exception as error:  # ValueError, or RecursionError where brackets are nested thousands deep
        raise BadSample('broken_json', f'{type(error).__name__}: {error}') from error
