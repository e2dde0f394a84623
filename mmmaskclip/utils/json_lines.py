"""Lists that a run keeps in its folder, one JSON record a line."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmmaskclip.utils.disk import DISK_FULL


def append_json_lines(path: Path, records: Iterable[dict[str, Any]]) -> bool:
    """Append records to a file. If the disk is full, append none of them and log an error.

    Args:
        path: The file; created if it does not exist.
        records: Records that ``json`` can write.

    Returns:
        Whether the records were appended.

    Raises:
        OSError: If the file cannot be written for another reason than a full disk.
    """
    rest = ''.join(json.dumps(record) + '\n' for record in records).encode()
    try:
        with open(path, 'ab+', buffering=0) as file:
            before = file.tell()
            # A killed process may have left half a line. A line break keeps the next record apart from it.
            if before:
                file.seek(-1, os.SEEK_END)
                rest = rest if file.read(1) == b'\n' else b'\n' + rest
            try:
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    file.truncate(before)
                raise
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        text = f'{path} could not be written: {error}. The run continues; free some space.'
        print_log(text, logger='current', level=logging.ERROR)
        return False
    return True
