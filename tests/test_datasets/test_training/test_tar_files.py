import io
import tarfile

import pytest

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.tar_files import read_span, walk_samples


def _walk(data):
    file = io.BytesIO(data)
    return [
        (sample.key, {name: read_span(file, span) for name, span in sample.files.items()})
        for sample in walk_samples(file)
    ]


def _tar(members, format=tarfile.PAX_FORMAT, **attributes):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w', format=format) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in attributes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


LONG = 'folder/' * 30 + 'x' * 120
MEMBERS = [
    ('0.jpg', b'a' * 1000),
    ('0.txt', b'text'),
    ('0.mask.png', b''),
    (f'{LONG}.JPG', b'long'),
    (f'{LONG}.txt', b'x' * 512),
    ('ünï.txt', b'umlaut'),
]
EXPECTED = [
    ('0', {'jpg': b'a' * 1000, 'txt': b'text', 'mask.png': b''}),
    (LONG, {'jpg': b'long', 'txt': b'x' * 512}),
    ('ünï', {'txt': b'umlaut'}),
]


@pytest.mark.parametrize('format', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_names_and_contents(format):
    assert _walk(_tar(MEMBERS, format)) == EXPECTED


def test_pax_headers_of_img2dataset():
    # webdataset's writer stores fractional times, for which tarfile adds a pax header to every member.
    data = _tar(MEMBERS, mtime=1.5)
    assert data.count(b'mtime=') == len(MEMBERS)
    assert _walk(data) == EXPECTED


def test_other_members_are_left_out():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, kind in (('folder', tarfile.DIRTYPE), ('1.txt', tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
        for name in ('__meta__.json', '__notes__', '._1.txt', 'noextension', '1.jpg'):
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert [key for key, _ in _walk(buffer.getvalue())] == ['1']


@pytest.mark.parametrize('cut', [100, 1100, 2600])
def test_a_cut_file_gives_what_is_complete_before_it(cut):
    data = _tar([(f'{i}.jpg', bytes([i]) * 600) for i in range(4)])
    found = []
    samples = walk_samples(io.BytesIO(data[:cut]))
    with pytest.raises(BadSample, match='broken_tar'):
        found.extend(sample.key for sample in samples)
    # Each member takes 1536 bytes; the sample that the cut touches, or may touch, is not given.
    assert found == [str(i) for i in range(max(0, cut // 1536 - 1))]


def test_a_damaged_header_in_the_middle_is_noticed():
    data = bytearray(_tar([(f'{i}.jpg', b'x') for i in range(4)]))
    data[2 * 1024 : 2 * 1024 + 50] = b'#' * 50
    with pytest.raises(BadSample, match='no valid header at byte 2048: wrong checksum; lost from sample 1 on'):
        list(walk_samples(io.BytesIO(bytes(data))))


@pytest.mark.parametrize('members', [0, 1, 3])
def test_a_file_that_is_cut_between_two_members_is_not_whole(members):
    """Each member takes 1536 bytes. The last sample may lack files, and is not given."""
    data = _tar([(f'{i}.jpg', bytes([i]) * 600) for i in range(4)])[: 1536 * members]
    found = []
    with pytest.raises(BadSample, match=f'cut off at byte {len(data)}, between two files: the blocks of zeros'):
        found.extend(sample.key for sample in walk_samples(io.BytesIO(data)))
    assert found == [str(i) for i in range(max(0, members - 1))]


def test_files_behind_the_end_of_the_archive_are_noticed():
    first, second = (_tar([(f'{i}.jpg', b'x')]) for i in range(2))
    found = []
    with pytest.raises(
        BadSample, match='files follow the end of the archive at byte 1536: several archives in one file'
    ):
        found.extend(sample.key for sample in walk_samples(io.BytesIO(first + second)))
    assert found == ['0']


def test_an_archive_without_files():
    assert _walk(_tar([])) == []


def test_something_else_than_a_tar_file():
    with pytest.raises(BadSample, match='no valid header at byte 0'):
        _walk(b'<html>not found</html>' * 100)


@pytest.mark.parametrize('field', [b'-0000001000', b'0000000xyz', b'99999999999'])
def test_sizes_that_are_none_end_the_walk(field):
    data = bytearray(_tar([('0.jpg', b'x'), ('1.jpg', b'x')]))
    data[124:135] = field
    data[148:156] = b' ' * 8
    data[148:156] = b'%06o\0 ' % sum(data[:512])
    with pytest.raises(BadSample, match='broken_tar'):
        _walk(bytes(data))


@pytest.mark.parametrize('read', [['jpg'], ['txt', 'jpg'], ['json'], []])
def test_what_is_read_of_the_last_sample_does_not_hide_the_end(read):
    data = _tar([(f'{number}.{kind}', kind.encode()) for number in range(2) for kind in ('jpg', 'txt', 'json')])
    file = io.BytesIO(data)
    contents = [[read_span(file, sample.files[kind]) for kind in read] for sample in walk_samples(file)]
    assert contents == 2 * [[kind.encode() for kind in read]]
