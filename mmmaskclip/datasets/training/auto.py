"""Detects the data at a path, so that ``dict(type='auto', path=...)`` can train on them as they are."""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import parse_json, read_json, read_lines
from mmmaskclip.datasets.training.annotation_files import detect_format
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.folders_and_tables import (
    IMAGE_ENDINGS,
    REMOTE,
    ArrowFolder,
    open_parquet,
    parquet_files,
)
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import ImageTextShards
from mmmaskclip.datasets.training.shard_counts import estimate_samples
from mmmaskclip.datasets.training.shard_reading import open_shard
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_local
from mmmaskclip.datasets.transforms.decode import MOST_PIXELS, decode_image
from mmmaskclip.registry import DATASETS

# Usual names of columns and fields, the likeliest first.
IMAGE_COLUMNS = ('filepath', 'file_name', 'filename', 'image', 'image_path', 'img_path', 'img', 'path', 'file', 'jpg')
CAPTION_COLUMNS = (
    'captions',
    'caption',
    'text',
    'texts',
    'title',
    'sentences',
    'sentence',
    'description',
    'TEXT',
    'txt',
)
_LOOKED_AT = 16
_SPLITS = {'train': 'train', 'training': 'train', 'test': 'test', 'testing': 'test', 'eval': 'test'}
_SPLITS |= dict.fromkeys(('val', 'valid', 'validation', 'dev'), 'validation')


@dataclass
class FoundData:
    """The data at a path.

    Attributes:
        kind: ``shards``, ``csv``, ``tsv``, ``jsonl``, ``coco``, ``karpathy``, ``folder``, ``parquet`` or ``arrow``.
        options: Arguments of the dataset that reads it: :class:`~.ImageTextShards` for shards, else
            :class:`~.ImageTextPairs`.
    """

    kind: str
    options: dict[str, Any] = field(default_factory=dict)


def find_data(
    path: str | Sequence[str], image_key: str | None = None, caption_key: str | Sequence[str] | None = None
) -> FoundData:
    """Detect the data at a path.

    Args:
        path: A folder, a file, a pattern, a list of shards, or ``hf://datasets/OWNER/NAME``, a repository of Hugging
            Face, optionally with a folder or file in it.
        image_key: Column or field of the image. Default: one of :data:`IMAGE_COLUMNS`.
        caption_key: Column, field or key of the captions, or several. Default: one of :data:`CAPTION_COLUMNS`.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If no reader fits the data; the message says what is there and what to do.
    """
    if isinstance(path, str) and path.startswith(REMOTE):
        return _in_repository(path, image_key, caption_key)
    if not isinstance(path, str) or not is_local(path) or '.tar' in os.path.basename(path):
        return _shards(path, caption_key)
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        return _in_folder(path, image_key, caption_key)
    if path.lower().endswith('.parquet') and (files := parquet_files(path)):
        return _parquet(path, files, image_key, caption_key)
    if not os.path.isfile(path):
        raise FileNotFoundError(f'there is neither a file nor a folder {path!r} (seen from {os.getcwd()})')
    return _list(detect_format(path), path, image_key, caption_key)


def build_auto(
    path: str | Sequence[str],
    views: dict[str, list[Any]],
    image_key: str | None = None,
    caption_key: str | Sequence[str] | None = None,
    **kwargs: Any,
) -> Dataset:
    """Build the dataset that reads the data at a path, and log a description of the data.

    Args:
        path: See :func:`find_data`.
        views: Transforms by view, see :class:`~mmmaskclip.datasets.transforms.views.ImageViews`.
        image_key: See :func:`find_data`.
        caption_key: See :func:`find_data`.
        **kwargs: Other arguments of the dataset: of :class:`~.ImageTextShards` for tar files, else of
            :class:`~.ImageTextPairs`.
    """
    found = find_data(path, image_key, caption_key)
    cls = ImageTextShards if found.kind == 'shards' else ImageTextPairs
    dataset = cls(views=views, **{**found.options, **kwargs})
    print_log(describe_data(path, found, dataset), logger='current')
    return dataset


DATASETS.register_module(name='auto', module=build_auto)


def default_sampler(dataset: Any) -> dict[str, Any] | None:
    """Config of the sampler of a training set whose config names none; None for shards, which order themselves.

    Args:
        dataset: Config of a dataset, or a dataset.
    """
    kind = dataset.get('type') if isinstance(dataset, dict) else type(dataset).__name__
    if kind == 'auto':
        keys = ('path', 'image_key', 'caption_key')
        found = find_data(**{name: value for name, value in dataset.items() if name in keys})
        kind = 'ImageTextShards' if found.kind == 'shards' else 'ImageTextPairs'
    return dict(type='ResumableSampler', shuffle=True) if kind == 'ImageTextPairs' else None


def describe_data(path: Any, found: FoundData, dataset: Any) -> str:
    """Describe the data: kind, options of the reader, number, image sizes, captions per image, three examples."""
    options = ', '.join(f'{name}={value!r}' for name, value in found.options.items())
    if isinstance(dataset, ImageTextShards):
        samples = _first_of_shards(dataset)
        number = sum(len(captions) for _, _, captions in samples) / max(1, len(samples))
        how_many = f'{_size_of(dataset)}; {number:.1f} captions per image in the first {len(samples)}'
    else:
        captions = dataset.num_captions
        how_many = f'{len(dataset)} images, {captions} captions ({captions / len(dataset):.1f} per image)'
        spread = range(0, len(dataset), max(1, len(dataset) // _LOOKED_AT))
        samples = [_raw(dataset, index) for index in islice(spread, _LOOKED_AT)]
    sizes = sorted((size[0] * size[1], size) for _, size, _ in samples if size)
    lines = [f'{path}: {found.kind}, read with {options}', f'  {how_many}']
    if sizes:
        small, large = sizes[0][1], sizes[-1][1]
        lines.append(f'  {len(sizes)} images checked: {small[0]}x{small[1]} to {large[0]}x{large[1]} pixels')
    if len(sizes) < len(samples):
        lines.append(f'  {len(samples) - len(sizes)} of {len(samples)} checked images cannot be used')
    lines += [f'  {name}: {" | ".join(captions[:5])[:200]}' for name, _, captions in samples[:3]]
    return '\n'.join(lines)


def _size_of(dataset: ImageTextShards) -> str:
    if dataset.total_samples:
        number, exact = dataset.total_samples, dataset.counts is not None
    else:
        number, exact = estimate_samples(dataset.shards, dataset.index_dir)
    return f'{len(dataset.shards)} shards of {"" if exact else "about "}{number} images'


def _first_of_shards(dataset: ImageTextShards) -> list[tuple[str, Any, list[str]]]:
    samples = []
    for sample in islice(open_shard(dataset.shards[0]), _LOOKED_AT):
        data = next((sample.files[key] for key in dataset.image_keys if key in sample.files), b'')
        try:
            captions = dataset.captions(sample.files)
        except BadSample as bad:
            captions = [str(bad)]
        samples.append((sample.key, _size(data), captions))
    return samples


def _raw(dataset: ImageTextPairs, index: int) -> tuple[str, Any, list[str]]:
    try:
        name, data, captions = dataset.raw(index)
    except BadSample as bad:
        return bad.detail, None, []
    return name, _size(data), captions


def _size(data: bytes) -> tuple[int, int] | None:
    try:
        return decode_image(data, MOST_PIXELS).size
    except BadSample:
        return None


def _shards(path: str | Sequence[str], caption_key: str | Sequence[str] | None) -> FoundData:
    shards = expand_urls(path)
    options: dict[str, Any] = {'urls': path}
    if caption_key is None:
        first = next(iter(open_shard(shards[0])), None)
        if first is None:
            raise ValueError(f'{shards[0]} has no sample')
        caption_key = _key_of_sample(first.files)
        if caption_key is None:
            raise ValueError(
                f'{shards[0]}: sample {first.key} has no caption in txt or json, but {", ".join(sorted(first.files))}; '
                'set caption_key'
            )
    return FoundData('shards', {**options, 'caption_key': caption_key})


def _key_of_sample(files: dict[str, bytes]) -> str | None:
    """The key with the most captions."""
    best: tuple[int, str | None] = (0, None)
    for key in ('txt', *(f'json:{name}' for name in CAPTION_COLUMNS)):
        try:
            number = len(CaptionReader(key)(files))
        except BadSample:
            continue
        if number > best[0]:
            best = number, key
    return best[1]


def _in_folder(path: str, image_key: str | None, caption_key: str | Sequence[str] | None) -> FoundData:
    names = sorted(os.listdir(path))
    if any(name.endswith('.tar') for name in names):
        return _shards(path, caption_key)
    if 'dataset_dict.json' in names:
        splits = read_json(os.path.join(path, 'dataset_dict.json')).get('splits', [])
        raise ValueError(f'{path} has the splits {splits}: give the folder of one, e.g. {os.path.join(path, "train")}')
    if any(name.endswith('.arrow') for name in names):
        folder = ArrowFolder(path)
        return _table('arrow', path, folder.table(folder.files[0]).column_names, image_key, caption_key)
    for name in ('metadata.jsonl', 'metadata.csv'):
        if name in names:
            return _list(name.rpartition('.')[2], os.path.join(path, name), image_key, caption_key)
    files = parquet_files(path)
    if files:
        return _parquet(path, files, image_key, caption_key)
    if any(name.lower().endswith(IMAGE_ENDINGS) for _, _, names in os.walk(path) for name in names):
        return FoundData('folder', {'ann_file': path, 'format': 'folder', 'data_root': path})
    raise ValueError(
        f'{path} has no tar files, images, parquet or arrow files, but {", ".join(names[:8]) or "nothing"}; give the '
        'list of the images itself, or another folder'
    )


def _in_repository(path: str, image_key: str | None, caption_key: str | Sequence[str] | None) -> FoundData:
    if not path.startswith(f'{REMOTE}datasets/'):
        raise ValueError(f'{path} is a model: data sets are {REMOTE}datasets/OWNER/NAME')
    files = parquet_files(path)
    if not files:
        address = f'https://huggingface.co/{path.removeprefix(REMOTE)}/resolve/main/NAME.tar'
        raise ValueError(
            f'{path} has no parquet file. Other formats become shards by make_shards.py with --split; tar shards are '
            f"streamed by their addresses: type='ImageTextShards', urls='{address}', num_samples=..."
        )
    return _parquet(path, files, image_key, caption_key)


def _parquet(
    path: str, files: Sequence[str], image_key: str | None, caption_key: str | Sequence[str] | None
) -> FoundData:
    splits: dict[str, str] = {}
    for file in files:
        # As Hugging Face names them: train-00000-of-00002.parquet, data/train/a.parquet.
        words = re.split(r'[^A-Za-z]+', file.removeprefix(path.split('*')[0]).lower())
        for split in {_SPLITS[word] for word in words if word in _SPLITS}:
            splits.setdefault(split, file)
    if len(splits) > 1:
        raise ValueError(
            f'{path} holds several splits ({", ".join(splits.values())}), which would be mixed: give a pattern of the '
            "files of one, as in 'FOLDER/train-*.parquet'"
        )
    return _table('parquet', path, open_parquet(files[0]).schema_arrow.names, image_key, caption_key)


def _list(format: str, path: str, image_key: str | None, caption_key: str | Sequence[str] | None) -> FoundData:
    if format in ('coco', 'karpathy'):
        options: dict[str, Any] = {'ann_file': path, 'format': format}
        content = read_json(path)
        names = [image.get('file_name') or image.get('filename') for image in content['images'][:_LOOKED_AT]]
        return FoundData(format, {**options, 'data_root': _root(path, names)})
    lines = read_lines(path)
    if format == 'jsonl':
        rows = list(islice(_parsed(path, lines), _LOOKED_AT))
        columns: list[str] = list(rows[0]) if rows and isinstance(rows[0], dict) else []
    else:
        reader = csv.reader(lines, delimiter='\t' if format == 'tsv' else ',')
        columns = next(reader, [])
        rows = [dict(zip(columns, row, strict=False)) for row in islice(reader, _LOOKED_AT)]
    found = _table(format, path, columns, image_key, caption_key)
    key = found.options['image_key']
    found.options['data_root'] = _root(path, [row.get(key) for row in rows if isinstance(row, dict)])
    return found


def _parsed(path: str, lines: Iterable[str]) -> Iterator[Any]:
    """Yield the records of a jsonl; broken lines are left to the reader, which counts them, unless all are broken."""
    faults, good = [], False
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                record = parse_json(line)
            except BadSample as bad:
                faults.append(f'line {number}: {bad}')
                continue
            good = True
            yield record
    if faults and not good:
        raise ValueError(f'{path}: no line is json; {faults[0]}')


def _table(
    kind: str, path: str, columns: Sequence[str], image_key: str | None, caption_key: str | Sequence[str] | None
) -> FoundData:
    image_key, caption_key = choose_columns(path, columns, image_key, caption_key)
    options = {'ann_file': path, 'format': kind, 'image_key': image_key, 'caption_key': caption_key}
    root = path if os.path.isdir(path) else os.path.dirname(path)
    return FoundData(kind, {**options, 'data_root': root})


def choose_columns(
    path: str, columns: Sequence[str], image_key: str | None, caption_key: str | Sequence[str] | None
) -> tuple[Any, Any]:
    """Return the columns of image and caption: those that are given, or those with a usual name.

    Raises:
        ValueError: If no column has one; the message names the columns.
    """
    chosen = []
    for given, known, what in ((image_key, IMAGE_COLUMNS, 'image'), (caption_key, CAPTION_COLUMNS, 'caption')):
        name = given or next((name for name in known if name in columns), None)
        if name is None:
            more = ' The file is empty.' if not columns else ''
            if len(columns) == 1 and (found := re.search(r'[;|\t]', columns[0])):
                more = f' Its cells are separated by {found[0]!r}: save the list with commas, or as .tsv with tabs.'
            if what == 'image' and {'url', 'URL'} & {*columns}:
                more = ' It lists addresses: download them first, with img2dataset.'
            raise ValueError(
                f'{path}: none of the columns {list(columns)} looks like the {what}; set {what}_key.{more}'
            )
        chosen.append(name)
    return chosen[0], chosen[1]


def _root(path: str, names: Iterable[Any]) -> str:
    """The folder that the images' paths are relative to: one near the list, or the working directory."""
    folder = Path(path).absolute().parent
    near = [folder, folder / 'images', folder.parent, folder.parent / 'images', Path.cwd()]
    # COCO: annotations/captions_val2017.json, and val2017 beside the folder.
    near += [folder.parent / part for part in Path(path).stem.split('_')]
    for root in near:
        if any(isinstance(name, str) and name and (root / name).is_file() for name in names):
            return str(root)
    return str(folder)
