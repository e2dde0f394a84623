"""Walks a local, uncompressed tar file by its headers, so that what is not needed is never read.

``tarfile`` takes a damaged header in the middle of a file for its end, without a word, so a shard could lose half of
its samples unnoticed. It also needs three times as long, and millions of members are counted before training starts.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from webdataset.tariterators import base_plus_ext

from mmmaskclip.datasets.sampling import BadSample

_BLOCK = 512
_END = bytes(_BLOCK)
_METADATA = ('__', '._')  # webdataset's notes about a shard; the resource forks that macOS adds


@dataclass
class TarSample:
    """The files of one sample: ``KEY.jpg``, ``KEY.txt``, ... side by side in a tar file.

    Attributes:
        key: Their common name, with its folder, without extension.
        spans: Extension (lower case) to (offset, size) of the content in the tar file.
    """

    key: str
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)


def walk_samples(file: BinaryIO) -> Iterator[TarSample]:
    """Find the samples of a tar file from its beginning, in order, reading headers only.

    Args:
        file: Open for reading, unbuffered (the walk jumps from header to header).

    Yields:
        Samples all of whose files are complete.

    Raises:
        BadSample: ``broken_tar``, after the last complete sample, when the file is damaged or cut off there.
    """
    sample: TarSample | None = None
    broken: BadSample | None = None
    members = _walk_members(file)
    while True:
        try:
            name, offset, size = next(members)
        except StopIteration:
            break
        except BadSample as error:
            broken = error
            break
        key, extension = base_plus_ext(name)
        if key is None or key.rpartition('/')[2].startswith(_METADATA):
            continue
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = TarSample(key)
        sample.spans.setdefault(extension.lower(), (offset, size))
    if broken is None:
        if sample is not None:
            yield sample
        return
    # Whether the last sample before the damage is complete cannot be known; half of it may be missing.
    lost = f'; lost from sample {sample.key} on' if sample is not None else ''
    raise BadSample('broken_tar', broken.detail + lost)


def read_span(file: BinaryIO, span: tuple[int, int]) -> bytes:
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
            return
        size = _check(header, position)
        kind = header[156:157]
        if 'size' in extended:
            size = int(extended['size'])
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


def _check(header: bytes, position: int) -> int:
    """Verify a header's checksum and give the size of what follows it."""
    try:
        if len(header) != _BLOCK:
            raise ValueError('cut off')
        if int(header[148:156].rstrip(b' \0') or b'-1', 8) != sum(header) - sum(header[148:156]) + 256:
            raise ValueError('wrong checksum')
        if header[124] & 0x80:  # GNU's binary form, for files of 8 GB and more
            return int.from_bytes(header[125:136], 'big')
        return int(header[124:136].rstrip(b' \0') or b'0', 8)
    except ValueError as error:
        raise BadSample('broken_tar', f'no valid header at byte {position}: {error}') from error


def _name(header: bytes) -> str:
    name = header[:100].split(b'\0', 1)[0]
    prefix = header[345:500].split(b'\0', 1)[0]
    if prefix and header[257:263] == b'ustar\0':
        name = prefix + b'/' + name
    return name.decode('utf-8', 'surrogateescape')


def _pax(data: bytes) -> dict[str, str]:
    """Parse the records ``LENGTH KEY=VALUE`` of a pax header, of which path and size matter here."""
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
