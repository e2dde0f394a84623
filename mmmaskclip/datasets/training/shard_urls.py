"""Finds tar shards by their paths, patterns and addresses."""

import glob
import os
from collections.abc import Sequence

from braceexpand import braceexpand


def expand_urls(urls: str | Sequence[str]) -> list[str]:
    """List the shards of a pattern, or of several.

    Args:
        urls: A path or url, with braces (``{00000..00099}.tar``) or, for local files, wildcards; a folder of ``.tar``
            files; or a list of such. ``pipe:COMMAND`` stays as it is, except for braces.

    Returns:
        The shards, in the order of the patterns; the matches of a wildcard, and the files of a folder, are sorted.

    Raises:
        FileNotFoundError: If a wildcard matches nothing, or a folder has no ``.tar`` file.
    """
    shards: list[str] = []
    for pattern in [urls] if isinstance(urls, str) else urls:
        for url in braceexpand(os.fspath(pattern)):
            if not is_local(url):
                shards.append(url)
            elif os.path.isdir(os.path.expanduser(url)):
                shards.extend(_in_folder(os.path.expanduser(url)))
            elif glob.has_magic(url) and not os.path.exists(url):
                matches = sorted(glob.glob(os.path.expanduser(url), recursive=True))
                if not matches:
                    raise FileNotFoundError(f'no shard matches {url!r} (seen from {os.getcwd()})')
                shards.extend(matches)
            else:
                shards.append(os.path.expanduser(url))
    if not shards:
        raise ValueError(f'urls={urls!r} names no shard')
    return shards


def _in_folder(folder: str) -> list[str]:
    names = sorted(os.listdir(folder))
    shards = [os.path.join(folder, name) for name in names if name.endswith('.tar') and not name.startswith('.')]
    if not shards:
        raise FileNotFoundError(
            f'the folder {folder!r} has no .tar file, but {", ".join(names[:5]) or "nothing"}. For other data use '
            "type='auto', path=..., or convert them with tools/dataset_converters/make_shards.py"
        )
    return shards


def is_local(url: str) -> bool:
    """Whether a shard is a local file, and not ``pipe:...`` or ``SCHEME://...``."""
    return '://' not in url and not url.startswith('pipe:')


def is_indexable(url: str) -> bool:
    """Whether samples of a shard can be counted and reached without reading the whole shard."""
    return is_local(url) and not url.endswith(('.gz', '.bz2', '.xz', '.zst'))


def shard_name(url: str) -> str:
    """Short name of a shard for keys and messages."""
    return url.rstrip('/').rpartition('/')[2]
