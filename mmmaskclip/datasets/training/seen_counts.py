"""Sample counts of remote shards, stored once a stream has read a shard to its end."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class SeenCounts:
    """Sample counts of remote shards, written once a stream has read a shard to its end.

    With them a resumed run need not read the shards that it has used up. Streams of all processes append to one file.

    Args:
        shards: The shards; another list has another file.
        index_dir: Folder of the file. Default: in the user's cache folder.
    """

    def __init__(self, shards: Sequence[str], index_dir: str | None) -> None:
        digest = hashlib.sha1('\n'.join(shards).encode('utf-8', 'surrogatepass')).hexdigest()[:16]
        self._path = user_folder(index_dir) / f'seen-{digest}.jsonl'
        self._counts: dict[int, int] = {}
        for name, count in named_lines(self._path).items():
            if isinstance(count, int) and str(name).isdigit():
                self._counts[int(name)] = count

    def get(self, shard: int) -> int | None:
        """Samples of a shard, by its position; None if no stream has read it to its end."""
        return self._counts.get(shard)

    def add(self, shard: int, samples: int) -> None:
        """Store the count of a shard; if the file cannot be written, only for this process."""
        if self._counts.get(shard) == samples:
            return
        self._counts[shard] = samples
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One short write at the end of a file: processes do not mix their lines.
            with open(self._path, 'ab', buffering=0) as file:
                file.write(f'["{shard}",{samples}]\n'.encode())
        except OSError:
            pass


def user_folder(index_dir: str | None) -> Path:
    """Folder of the counts of shards whose own folder is not writable."""
    if index_dir is not None:
        return Path(index_dir)
    return Path(os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')) / 'mmmaskclip' / 'index'


def named_lines(part: Path) -> dict[str, list[Any]]:
    """Read the lines ``[name, entry]`` that several processes have appended; broken lines are ignored."""
    found = {}
    try:
        for line in part.read_text(encoding='utf-8').splitlines():
            try:
                name, entry = json.loads(line)
                found[name] = entry
            except (ValueError, TypeError):  # the last line of a process that was killed
                continue
    except OSError:
        pass
    return found
