"""Hugging Face data sets that the library ``datasets`` streams: any format, several configs and splits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmmaskclip.datasets.training.auto import FoundData, choose_columns
from mmmaskclip.datasets.training.folders_and_tables import REMOTE


def find_stream(
    path: str,
    configs: Sequence[str] | None = None,
    splits: Sequence[str] | None = None,
    image_key: str | None = None,
    caption_key: str | Sequence[str] | None = None,
) -> FoundData:
    """Find the configs, splits and columns with which ``datasets`` streams a data set.

    Args:
        path: ``hf://datasets/OWNER/NAME``, optionally with ``@REVISION``, or a local folder that is laid out like one.
        configs: Configs (subsets) to read, one after the other. Default: the only one, or the author's default.
        splits: Splits of each of them. Default: the only one.
        image_key: See :func:`~mmmaskclip.datasets.training.auto.find_data`.
        caption_key: Likewise.

    Returns:
        ``stream``; its options are ``path``, ``parts`` (config and split of each), ``image_key`` and ``caption_key``.

    Raises:
        ImportError: If ``datasets`` is not installed.
        ValueError: If there are several configs or splits and none is chosen, or one does not exist; the message lists
            those that do.
    """
    library = _library()
    name, revision = _address(path)
    present = library.get_dataset_config_names(name, revision=revision)
    if configs is None and (default := library.get_dataset_default_config_name(name, revision=revision)):
        configs = [default]
    parts = []
    for config in _chosen(path, 'config', configs, present):
        there = library.get_dataset_split_names(name, config, revision=revision)
        parts += [(config, split) for split in _chosen(f'{path}, {config}', 'split', splits, there)]
    row: dict[str, Any] = next(iter(open_stream(path, *parts[0])), {})
    image_key, caption_key = choose_columns(path, list(row), image_key, caption_key)
    if isinstance(row.get(image_key), str):
        raise ValueError(
            f'{path} names its images, as {row[image_key]!r}, and does not hold them: download them first, with '
            'img2dataset'
        )
    return FoundData('stream', dict(path=path, parts=parts, image_key=image_key, caption_key=caption_key))


def open_stream(path: str, config: str, split: str) -> Any:
    """Open one split as ``datasets.IterableDataset``; images stay encoded files."""
    library = _library()
    name, revision = _address(path)
    stream = library.load_dataset(name, config, split=split, revision=revision, streaming=True)
    for column, kind in (stream.features or {}).items():
        if isinstance(kind, library.Image):
            stream = stream.cast_column(column, library.Image(decode=False))
    return stream


def _chosen(where: str, what: str, names: Sequence[str] | None, present: Sequence[str]) -> Sequence[str]:
    unknown = [name for name in names or () if name not in present]
    if unknown or (names is None and len(present) > 1):
        problem = f'has no {what} {", ".join(unknown)}' if unknown else f'has several {what}s'
        raise ValueError(f'{where} {problem}: give --{what} with one or more of {", ".join(present)}')
    return present if names is None else names


def _address(path: str) -> tuple[str, str | None]:
    """The name that ``datasets`` knows, and the revision."""
    if not path.startswith(REMOTE):
        return path, None
    name, _, revision = path.removeprefix(f'{REMOTE}datasets/').partition('@')
    if name.count('/') > 1:
        raise ValueError(f'{path}: of what `datasets` streams give {REMOTE}datasets/OWNER/NAME, with config and split')
    return name, revision or None


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f'configs and splits of a Hugging Face data set need a package: pip install datasets, or the extra [data] '
            f'({error})'
        ) from error
    return datasets
