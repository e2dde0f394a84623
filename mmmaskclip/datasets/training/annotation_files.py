"""Reads lists of image files with captions: csv, tsv, jsonl, COCO captions, Karpathy's json."""

import csv
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from math import nan
from typing import Any

import numpy as np

from mmmaskclip.datasets.columns import StringColumn
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import parse_json, read_json, read_lines
from mmmaskclip.datasets.training.folders_and_tables import (
    ArrowFolder,
    Row,
    check_columns,
    folder_rows,
    image_files,
    parquet_rows,
)
from mmmaskclip.datasets.transforms.tokenize import is_blank

FORMATS = ('csv', 'tsv', 'jsonl', 'coco', 'karpathy', 'folder', 'images', 'parquet', 'arrow')


class CaptionTable:
    """Images and their captions, in columns.

    Args:
        pairs: Path of an image and one of its captions. Rows of the same image are put together; images keep the order
            of their first row.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        numbers: dict[str, int] = {}  # of images, by path
        owners = array('q')  # for each caption, the number of its image

        # One pass over the pairs, of which there may be a hundred million. It fills numbers and owners, too.
        def captions() -> Iterator[str]:
            for path, caption in pairs:
                owners.append(numbers.setdefault(path, len(numbers)))
                yield caption

        self._captions = StringColumn(captions())
        self.paths = StringColumn(numbers)
        rows = np.array(owners, dtype=np.int64)
        # The captions of image i are _order[_ends[i] : _ends[i + 1]].
        self._order = np.argsort(rows, kind='stable')
        self._ends = np.searchsorted(rows[self._order], np.arange(len(numbers) + 1))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    @property
    def num_captions(self) -> int:
        """Captions of all images."""
        return len(self._captions)

    def captions(self, index: int) -> list[str]:
        """Captions of an image, in the order of the file; at least one."""
        return [self._captions[i] for i in self._order[self._ends[index] : self._ends[index + 1]]]


# How pandas and NumPy may write that there is no caption.
_MISSING = {'nan': nan, 'NaN': nan}


def detect_format(path: str) -> str:
    """Detect the format of an annotation file from its extension and, for json, its content."""
    for name in ('csv', 'tsv', 'jsonl'):
        if path.lower().endswith(f'.{name}'):
            return name
    if path.lower().endswith('.json'):
        content = read_json(path)
        if isinstance(content, dict) and 'annotations' in content:
            return 'coco'
        images = content.get('images') if isinstance(content, dict) else None
        if images and 'sentences' in images[0]:
            return 'karpathy'
    raise ValueError(
        f'cannot tell the format of {path}; set format to one of {", ".join(FORMATS)}. For a folder of images with '
        "texts, parquet, or a Hugging Face data set use type='auto', path=..., or turn it into shards with "
        'tools/dataset_converters/make_shards.py'
    )


def read_pairs(
    path: str,
    format: str,
    image_key: str,
    caption_key: str | Sequence[str],
    split: str | Sequence[str] | None,
    bad: list[BadSample],
) -> Iterator[tuple[str, str]]:
    """Yield (image path, caption) of an annotation file. No caption is blank, but those of ``images`` are empty.

    A row that cannot be used is added to ``bad``, with its line.

    Args:
        path: The file, in UTF-8; a folder for ``folder``, ``images``, ``parquet`` and ``arrow``.
        format: One of :data:`FORMATS`.
        image_key: Column or field of the image (csv, tsv, jsonl, parquet, arrow).
        caption_key: Columns or fields of the captions; they may hold lists (jsonl, parquet, arrow).
        split: Splits to keep (karpathy).
        bad: Receives the faults of single rows: ``broken_row``, ``broken_json``, ``missing_image``,
            ``missing_caption`` or ``empty_caption``.

    Raises:
        ValueError: The file lacks a column, is not of this format or not in UTF-8, or a quotation mark in a csv is not
            closed.
    """
    keys = [caption_key] if isinstance(caption_key, str) else list(caption_key)
    if format == 'images':
        for folder, images, _ in image_files(path):
            yield from ((os.path.relpath(os.path.join(folder, name), path), '') for name in images)
        return
    if format in ('csv', 'tsv'):
        rows = _table_rows(path, format, image_key, keys, bad)
    elif format == 'jsonl':
        rows = _jsonl_rows(path, image_key, keys, bad)
    elif format == 'coco':
        rows = _coco_rows(path, bad)
    elif format == 'karpathy':
        rows = _karpathy_rows(path, split)
    elif format == 'folder':
        rows = folder_rows(path, bad)
    elif format == 'parquet':
        rows = parquet_rows(path, image_key, keys)
    elif format == 'arrow':
        rows = ArrowFolder(path).rows(image_key, keys)
    else:
        raise ValueError(f'unknown format {format!r}; known are {", ".join(FORMATS)}')
    for where, name, captions in rows:
        if not isinstance(name, str) or not name:
            bad.append(BadSample('missing_image', f'{where}: {name!r} is no path of an image'))
            continue
        if not captions:
            bad.append(BadSample('missing_caption', f'{where}: no caption for {name}'))
        for caption in captions:
            # NaN, null and numbers of json are no captions; str() would turn them into some.
            if isinstance(caption, str) and not is_blank(caption):
                yield name, caption
            else:
                bad.append(BadSample('empty_caption', f'{where}: the caption of {name} is {caption!r}'))


def _table_rows(path: str, format: str, image_key: str, keys: list[str], bad: list[BadSample]) -> Iterator[Row]:
    table = _split_csv(path) if format == 'csv' else _split_tsv(path)
    _, columns = next(table, (0, []))
    check_columns(path, columns, image_key, keys)
    for line, cells in table:
        if len(cells) != len(columns):
            bad.append(BadSample('broken_row', f'line {line} has {len(cells)} cells, the header {len(columns)}'))
            continue
        row = dict(zip(columns, cells, strict=True))
        yield f'line {line}', row[image_key], [_MISSING.get(row[key].strip(), row[key]) for key in keys]


def _split_csv(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of its first line and the cells of every row of a csv file."""
    csv.field_size_limit(2**31 - 1)  # its own limit is 131,072 characters, less than some alternative texts have
    reader = csv.reader(read_lines(path), strict=True)
    remedy = 'Double every quotation mark inside of a quoted cell ("") and close every cell that begins with one.'
    line = 1
    try:
        for cells in reader:
            if reader.line_num > line and any(_swallowed(cell, cells) for cell in cells):
                raise ValueError(f'{path}: a quotation mark in line {line} is not closed: rows follow in it. {remedy}')
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f'{path}: line {line} cannot be read ({error}). {remedy}') from error


def _swallowed(cell: str, cells: list[str]) -> bool:
    """Whether a cell of several lines looks like rows that an unclosed quotation mark has swallowed silently."""
    endings = {ending for other in cells if (ending := _file_ending(other))}
    return any(_file_ending(part) in endings for line in cell.split('\n')[1:] for part in line.split(',')[:-1])


def _file_ending(text: str) -> str | None:
    found = re.search(r'\.(\w{3,4})$', text.strip().strip('"'))
    return found.group(1).lower() if found else None


def _split_tsv(path: str) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of every line. A tsv has no quoting, but pandas quotes cells with a quotation mark."""
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            yield number, [_unquoted(cell) for cell in line.rstrip('\n').split('\t')]


def _unquoted(cell: str) -> str:
    # Quoted are only cells in quotation marks that double each one inside.
    inner = cell[1:-1].replace('""', '')
    if len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inner:
        return cell[1:-1].replace('""', '"')
    return cell


def _jsonl_rows(path: str, image_key: str, keys: list[str], bad: list[BadSample]) -> Iterator[Row]:
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except BadSample as problem:
            bad.append(BadSample(problem.cause, f'line {number}: {problem.detail}'))
            continue
        if not isinstance(row, dict) or image_key not in row:
            known = f', but {sorted(row)[:8]}; set image_key' if isinstance(row, dict) else ''
            bad.append(BadSample('missing_image', f'line {number} has no field {image_key!r}{known}'))
            continue
        values = [row[key] for key in keys if key in row]
        captions = [item for value in values for item in (value if isinstance(value, list) else [value])]
        yield f'line {number}', row[image_key], captions


def _coco_rows(path: str, bad: list[BadSample]) -> Iterator[Row]:
    content = read_json(path)
    try:
        captions: dict[Any, list[Any]] = {image['id']: [] for image in content['images']}
        for number, annotation in enumerate(content['annotations']):
            if annotation['image_id'] in captions:
                captions[annotation['image_id']].append(annotation['caption'])
            else:
                where = f'annotation {number}: no image has the id {annotation["image_id"]!r}'
                bad.append(BadSample('missing_image', where))
        for image in content['images']:
            yield f'image {image["id"]}', image['file_name'], captions[image['id']]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} is no COCO captions file: {type(error).__name__} {error}') from error


def _karpathy_rows(path: str, split: str | Sequence[str] | None) -> Iterator[Row]:
    splits = {split} if isinstance(split, str) else set(split or ())
    content = read_json(path)
    present = set()
    try:
        for number, image in enumerate(content['images']):
            present.add(image['split'])
            if splits and image['split'] not in splits:
                continue
            folder = image.get('filepath')
            name = f'{folder}/{image["filename"]}' if folder else image['filename']
            yield f'image {number}', name, [sentence['raw'] for sentence in image['sentences']]
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} is no Karpathy file: {type(error).__name__} {error}') from error
    if splits - present:
        raise ValueError(f'{path} has no split {sorted(splits - present)}, but {sorted(present)}')
