"""Reads lists of image files with captions: csv, tsv, jsonl, COCO captions, Karpathy's json."""

import csv
import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from mmmaskclip.datasets.sampling import BadSample

FORMATS = ('csv', 'tsv', 'jsonl', 'coco', 'karpathy')


class StringColumn:
    """Many strings in two arrays.

    A list of a million strings is a million Python objects, whose reference counts make every worker copy the memory
    that it shared with the training process, page by page.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        data, ends = bytearray(), array('q', [0])
        for string in strings:
            data += string.encode('utf-8', 'surrogatepass')
            ends.append(len(data))
        self._data = np.frombuffer(bytes(data), dtype=np.uint8)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        begin, end = self._ends[index], self._ends[index + 1]
        return self._data[begin:end].tobytes().decode('utf-8', 'surrogatepass')


class CaptionTable:
    """Images and their captions, in columns.

    Args:
        pairs: Path of an image and one of its captions, or None where the caption is missing. Rows of the same image
            are put together; images keep the order of their first row.

    Attributes:
        blank (set[int]): Images with a caption that is there but empty, which :meth:`captions` leaves out.
    """

    def __init__(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        numbers: dict[str, int] = {}
        owners = array('q')
        self.blank: set[int] = set()

        def captions() -> Iterator[str]:
            for path, caption in pairs:
                number = numbers.setdefault(path, len(numbers))
                if caption is None:
                    continue
                if caption.strip():
                    owners.append(number)
                    yield caption
                else:
                    self.blank.add(number)

        self._captions = StringColumn(captions())
        self.paths = StringColumn(numbers)
        self._order = np.argsort(np.array(owners, dtype=np.int64), kind='stable')
        self._ends = np.searchsorted(np.sort(np.array(owners, dtype=np.int64)), np.arange(len(numbers) + 1))

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def captions(self, index: int) -> list[str]:
        """Captions of an image, in the order of the file; may be empty."""
        return [self._captions[i] for i in self._order[self._ends[index] : self._ends[index + 1]]]


def detect_format(path: str) -> str:
    """Tell the format of an annotation file from its extension and, for json, its content."""
    for name in ('csv', 'tsv', 'jsonl'):
        if path.endswith(f'.{name}'):
            return name
    if path.endswith('.json'):
        content = _load_json(path)
        if isinstance(content, dict) and 'annotations' in content:
            return 'coco'
        images = content.get('images') if isinstance(content, dict) else None
        if images and 'sentences' in images[0]:
            return 'karpathy'
    raise ValueError(f'cannot tell the format of {path}; set format to one of {", ".join(FORMATS)}')


def read_pairs(
    path: str,
    format: str,
    image_key: str,
    caption_key: str | Sequence[str],
    split: str | Sequence[str] | None,
    bad: list[BadSample],
) -> Iterator[tuple[str, str | None]]:
    """Read (image path, caption) from an annotation file; an image without caption comes with None.

    Args:
        path: The file.
        format: One of :data:`FORMATS`.
        image_key: Column or field of the image's path (csv, tsv, jsonl).
        caption_key: Columns or fields of the captions (csv, tsv, jsonl); in jsonl they may hold lists.
        split: Splits to keep (karpathy).
        bad: Receives what is wrong with single lines.

    Raises:
        ValueError: The file lacks a column, or is not of this format.
    """
    keys = [caption_key] if isinstance(caption_key, str) else list(caption_key)
    if format in ('csv', 'tsv'):
        yield from _read_table(path, '\t' if format == 'tsv' else ',', image_key, keys)
    elif format == 'jsonl':
        yield from _read_jsonl(path, image_key, keys, bad)
    elif format == 'coco':
        yield from _read_coco(path)
    elif format == 'karpathy':
        yield from _read_karpathy(path, split)
    else:
        raise ValueError(f'unknown format {format!r}; known are {", ".join(FORMATS)}')


def _read_table(path: str, separator: str, image_key: str, keys: list[str]) -> Iterator[tuple[str, str | None]]:
    csv.field_size_limit(2**31 - 1)
    with open(path, newline='', encoding='utf-8-sig') as file:
        reader = csv.DictReader(file, delimiter=separator)
        columns = reader.fieldnames or []
        missing = [key for key in (image_key, *keys) if key not in columns]
        if missing:
            raise ValueError(f'{path} has no column {missing}, but {list(columns)}; set image_key and caption_key')
        for row in reader:
            for key in keys:
                if row[image_key]:
                    yield row[image_key], row[key]


def _read_jsonl(path: str, image_key: str, keys: list[str], bad: list[BadSample]) -> Iterator[tuple[str, str | None]]:
    with open(path, encoding='utf-8') as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                bad.append(BadSample('broken_json', f'line {number}: {error}'))
                continue
            if not isinstance(row, dict) or not isinstance(row.get(image_key), str):
                bad.append(BadSample('missing_image', f'line {number} has no field {image_key!r}'))
                continue
            yield row[image_key], None
            for value in map(row.get, keys):
                for item in value if isinstance(value, list) else [] if value is None else [value]:
                    # json's NaN, null and numbers are no captions; str() would make some of them.
                    yield row[image_key], item if isinstance(item, str) else ''


def _read_coco(path: str) -> Iterator[tuple[str, str | None]]:
    content = _load_json(path)
    try:
        names = {image['id']: image['file_name'] for image in content['images']}
        for name in names.values():
            yield name, None
        for annotation in content['annotations']:
            yield names[annotation['image_id']], annotation['caption']
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} is no COCO captions file: {type(error).__name__} {error}') from error


def _read_karpathy(path: str, split: str | Sequence[str] | None) -> Iterator[tuple[str, str | None]]:
    splits = {split} if isinstance(split, str) else set(split or ())
    content = _load_json(path)
    found = set()
    try:
        for image in content['images']:
            found.add(image['split'])
            if splits and image['split'] not in splits:
                continue
            folder = image.get('filepath')
            name = f'{folder}/{image["filename"]}' if folder else image['filename']
            for sentence in image['sentences'] or [{'raw': None}]:
                yield name, sentence['raw']
    except (KeyError, TypeError) as error:
        raise ValueError(f'{path} is no Karpathy file: {type(error).__name__} {error}') from error
    if splits - found:
        raise ValueError(f'{path} has no split {sorted(splits - found)}, but {sorted(found)}')


def _load_json(path: str) -> Any:
    with open(path, encoding='utf-8') as file:
        return json.load(file)
