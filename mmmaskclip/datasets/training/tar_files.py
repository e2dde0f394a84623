"""Walks a local, uncompressed tar file by its headers, so that only needed files are read.

``tarfile`` silently takes a damaged header, or the end of a truncated file, for the end of the archive. So a shard
could lose half of its samples unnoticed. It also takes three times as long, and millions of members are counted before
training starts.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, Generic, TypeVar

from webdataset.tariterators import base_plus_ext

from mmmaskclip.datasets.sampling import BadSample

_BLOCK = 512
_END = bytes(_BLOCK)
NO_END = 'the blocks of zeros that end an archive are missing'
JOINED = 'several archives in one file; tar --concatenate or make_shards.py merges them'
# Metadata of webdataset (__meta__.json, a folder __x__), and the folder that macOS adds.
_NOTE = re.compile(r'(?:.*/)?__[^/]*__(?:[./].*)?$')
_MAC_FOLDER = '__MACOSX'
T = TypeVar('T')
Span = tuple[int, int]


def is_side_file(name: str) -> bool:
    """Whether a member of a tar file is no part of a sample: hidden files, metadata, files of macOS."""
    *folders, file = name.split('/')
    return file.startswith('.') or _MAC_FOLDER in folders or _NOTE.match(name) is not None


@dataclass
class Sample(Generic[T]):
    """The files of one sample: ``KEY.jpg``, ``KEY.txt``, ... side by side in a tar file.

    Attributes:
        key: Common name of the files, with the folder, without extension.
        files: Content, or its place in the tar file, by extension (lower case).
        problem: Reason why the sample cannot be used; None if it can.
    """

    key: str
    files: dict[str, T] = field(default_factory=dict)
    problem: BadSample | None = None


class SampleGrouper(Generic[T]):
    """Groups consecutive members of a tar file with one name up to the first dot into samples."""

    def __init__(self) -> None:
        self.held: Sample[T] | None = None

    def add(self, name: str, content: T) -> Sample[T] | None:
        """Add the next member; return the sample before it once that is complete."""
        key, extension = base_plus_ext(name)
        if key is None or is_side_file(name):
            return None
        done = None
        if self.held is None or self.held.key != key:
            done, self.held = self.held, Sample(key)
        extension = extension.lower()
        if extension in self.held.files:
            # In tar the later one replaces the first, but nobody can tell which was meant.
            self.held.problem = BadSample('duplicate_member', f'{name} is in the tar file twice')
        self.held.files[extension] = content
        return done


def walk_samples(file: BinaryIO) -> Iterator[Sample[Span]]:
    """Yield the samples of a tar file from its beginning, in order, reading headers only.

    Args:
        file: Open for reading, unbuffered (the walk jumps from header to header).

    Yields:
        Complete samples; contents are (offset, size) in the tar file.

    Raises:
        BadSample: ``broken_tar``, after the last complete sample, if the file is damaged or truncated there.
    """
    grouper: SampleGrouper[Span] = SampleGrouper()
    try:
        for name, offset, size in _walk_members(file):
            sample = grouper.add(name, (offset, size))
            if sample is not None:
                yield sample
        # Before the yield, because the caller moves the file position when it reads the last sample.
        end = file.tell()
        if grouper.held is not None:
            yield grouper.held
            grouper.held = None
        _check_end(file, end)
    except BadSample as broken:
        # The last sample before the damage may be incomplete.
        lost = f'; lost from sample {grouper.held.key} on' if grouper.held is not None else ''
        raise BadSample('broken_tar', broken.detail + lost) from broken


def read_span(file: BinaryIO, span: Span) -> bytes:
    """Read one file of a sample."""
    offset, size = span
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise BadSample('broken_tar', f'{size} bytes expected at {offset}, found {len(data)}: the file has changed')
    return data


def _walk_members(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    end_of_file = file.seek(0, 2)
    position = 0
    extended: dict[str, str] = {}
    while position < end_of_file:
        file.seek(position)
        header = file.read(_BLOCK)
        if header == _END:
            return  # the position is after this block
        size = _check(header, position)
        kind = header[156:157]
        if 'size' in extended:
            size = _number(extended['size'].encode(), 10, position)
        start = position + _BLOCK
        if start + size > end_of_file:
            raise BadSample('broken_tar', f'cut off at byte {end_of_file}, inside of {_name(header)}')
        position = start + -(-size // _BLOCK) * _BLOCK
        if kind == b'x':
            extended.update(_pax(file.read(size)))
        elif kind == b'L':
            extended['path'] = file.read(size).rstrip(b'\0').decode('utf-8', 'surrogateescape')
        elif kind not in b'Kg':
            if kind in (b'0', b'\0', b'7'):
                yield extended.get('path') or _name(header), start, size
            extended = {}
    # Zeros end every archive; a copy that stopped between two files lacks them.
    raise BadSample('broken_tar', f'cut off at byte {end_of_file}, between two files: {NO_END}')


def _check_end(file: BinaryIO, start: int) -> None:
    """Raise BadSample if files follow the end of the archive, which every program would ignore."""
    file.seek(start)
    while block := file.read(_BLOCK * 2048):
        if any(block):
            raise BadSample('broken_tar', f'files follow the end of the archive at byte {start}: {JOINED}')


def _check(header: bytes, position: int) -> int:
    """Verify a header's checksum and return the size of the file after it."""
    if len(header) != _BLOCK:
        raise BadSample('broken_tar', f'no valid header at byte {position}: cut off')
    if _number(header[148:156], 8, position) != sum(header) - sum(header[148:156]) + 256:
        raise BadSample('broken_tar', f'no valid header at byte {position}: wrong checksum')
    if header[124] & 0x80:  # GNU's binary form, for files of 8 GB and more
        return int.from_bytes(header[125:136], 'big')
    return _number(header[124:136], 8, position)


def _number(text: bytes, base: int, position: int) -> int:
    digits = text.rstrip(b' \0').lstrip() or b'0'
    # A negative size would make the walk loop for ever.
    if not digits.isdigit():
        raise BadSample('broken_tar', f'no valid header at byte {position}: {digits[:20]!r} is no number')
    try:
        return int(digits, base)
    except ValueError as error:
        raise BadSample('broken_tar', f'no valid header at byte {position}: {error}') from error


def _name(header: bytes) -> str:
    name = header[:100].split(b'\0', 1)[0]
    prefix = header[345:500].split(b'\0', 1)[0]
    if prefix and header[257:263] == b'ustar\0':
        name = prefix + b'/' + name
    return name.decode('utf-8', 'surrogateescape')


def _pax(data: bytes) -> dict[str, str]:
    """Parse path and size from the records ``LENGTH KEY=VALUE`` of a pax header."""
    records = {}
    while data:
        length, _, _ = data.partition(b' ')
        if not length.isdigit() or not 0 < int(length) <= len(data):
            break
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b'=')
        if key in (b'path', b'size'):
            records[key.decode()] = value.decode('utf-8', 'surrogateescape')
        data = data[int(length) :]
    return records
