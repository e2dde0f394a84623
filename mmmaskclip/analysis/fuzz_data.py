"""The fuzzer's data cases. Each must end in a clear error or a counted skip, and all readers must agree."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from mmmaskclip.datasets import EvaluationShards, ImageTextPairs, ImageTextShards
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import read_lines
from mmmaskclip.datasets.training.annotation_files import read_pairs
from mmmaskclip.datasets.training.shard_reading import open_shard

# The errors of our checks, which carry a message. A KeyError or TypeError from inside a library is not clear.
CLEAR = (ValueError, RuntimeError, FileNotFoundError)
_SAMPLES = 12
BAD_CAPTIONS = (
    b'null', b'[]', b'{"caption": NaN}', b'{}', b'[' * 100_000, b'{"caption": "&nbsp;"}', b'{"caption": "\\ud83d"}',
    b'{"caption": "caf\xe9"}', b'{"caption": ["", null, 3]}', b'\xef\xbb\xbf{"caption": "\\u0000"}',
)  # fmt: skip


def damage(data: bytes, draw: random.Random) -> bytes:
    """Damage bytes outside the padding: flip bits, cut off, blank, repeat, insert or replace."""
    content = bytearray(data)
    filled = [place for place, byte in enumerate(data) if byte] or [0]
    start = draw.choice(filled)
    size = draw.choice([1, 16, 512, 4096])
    kind = draw.choice(['flip', 'cut', 'blank', 'repeat', 'insert', 'replace'])
    if kind == 'flip':
        for _ in range(draw.choice([1, 10, 200])):
            content[draw.choice(filled)] ^= 1 << draw.randrange(8)
    elif kind == 'cut':
        del content[start:]
    elif kind == 'blank':
        content[start : start + size] = bytes(len(content[start : start + size]))
    elif kind == 'repeat':
        content[start:start] = content[start : start + size]
    elif kind == 'insert':
        content[start:start] = draw.randbytes(size)
    else:  # bytes of another kind, as after a failed download or under a wrong file name
        content[:] = draw.choice([b'', b'<html>404 Not Found</html>', gzip.compress(data), draw.randbytes(2048)])
    return bytes(content)


def write_shard(path: Path, draw: random.Random, bad_captions: int = 0) -> None:
    """Write a shard of good images; the first ``bad_captions`` samples have damaged or invalid captions."""
    with tarfile.open(path, 'w') as tar:
        for index in range(_SAMPLES):
            image = io.BytesIO()
            Image.new('RGB', (16, 16), (index, 2 * index, 90)).save(image, 'JPEG')
            caption = {'caption': f'a caption of {index}', 'captions': ['one', 'two']}
            text = json.dumps(caption).encode()
            if index < bad_captions:
                text = draw.choice([damage(text, draw), draw.randbytes(40), *BAD_CAPTIONS])
            for name, data in (('jpg', image.getvalue()), ('json', text)):
                member = tarfile.TarInfo(f'{index:05d}.{name}')
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read_shards(urls: list[str]) -> tuple[str, dict[str, bytes]]:
    """Read an epoch.

    Returns:
        ``'skip'`` if samples were skipped, else ``'ok'``; and the pixels and tokens of each sample by key.
    """
    views = {'image': [dict(type='torchvision/Resize', size=[8, 8])]}
    dataset = ImageTextShards(urls, views, caption_key='json:caption', shuffle_buffer=4)
    dataset.begin_epoch(0, 0, 2)
    samples = list(dataset)
    assert len(samples) == len(dataset) // 2 * 2, 'the epoch has another length than len(dataset)'
    content = {s['key']: s['image'].numpy().tobytes() + s['tokens'].numpy().tobytes() for s in samples}
    return 'skip' if any(sample['skipped'] for sample in samples) else 'ok', content


def fuzz_shard(folder: Path, draw: random.Random) -> str:
    """A damaged shard beside a good one. No sample of the good shard may be lost or changed."""
    good, bad = folder / 'good.tar', folder / 'bad.tar'
    write_shard(good, draw)
    write_shard(bad, draw)
    intact = read_shards([str(good), str(bad)])[1]
    bad.write_bytes(damage(bad.read_bytes(), draw))
    outcome, content = read_shards([str(good), str(bad)])
    kept = [key for key in intact if key.startswith('good') and content.get(key) == intact[key]]
    # With an odd number of samples the last one fills no batch.
    assert len(kept) >= _SAMPLES - 1, f'{_SAMPLES - len(kept)} samples of the good shard are lost or changed'
    # Neither tar nor JPEG has a checksum of its content: some damage cannot be noticed.
    return 'unseen' if outcome == 'ok' and content != intact else outcome


def fuzz_caption(folder: Path, draw: random.Random) -> str:
    """Damaged or invalid captions in intact tar files."""
    write_shard(folder / 'a.tar', draw, bad_captions=draw.randrange(1, _SAMPLES + 1))
    return read_shards([str(folder / 'a.tar')])[0]


def fuzz_list(folder: Path, draw: random.Random) -> str:
    """A list with odd cells and damaged bytes. Every physical row is delivered or counted, or the list is refused."""
    form = draw.choice(['csv', 'tsv', 'jsonl'])
    cells = ['a cat', '', '"he said', 'say "hi"', '&nbsp;', '\ufeff', 'a\tb', 'x,y', '\u2028', 'x' * 70_000, "it's"]
    rows = [(f'{index}.jpg', draw.choice(cells)) for index in range(_SAMPLES)]
    if form == 'jsonl':
        values = [*cells, None, 3, [], ['a', None], float('nan')]
        lines = [json.dumps({'filepath': name, 'caption': draw.choice(values)}) for name, _ in rows]
    else:
        separator = ',' if form == 'csv' else '\t'
        lines = [separator.join(row) for row in [('filepath', 'caption'), *rows]]
    data = draw.choice(['', '\ufeff']).encode() + draw.choice(['\n', '\r\n']).join(lines).encode()
    path = folder / f'a.{form}'
    path.write_bytes(damage(data, draw) if draw.random() < 0.5 else data)
    bad: list[BadSample] = []
    pairs = list(read_pairs(str(path), form, 'filepath', 'caption', None, bad))
    physical = sum(1 for line in read_lines(path) if line.strip()) - (form != 'jsonl')
    # A row may give several captions, so more pairs than rows are right; a csv cell may span several physical lines.
    lines_within = sum(caption.count('\n') for _, caption in pairs) if form == 'csv' else 0
    assert len(pairs) + len(bad) + lines_within >= physical, f'{physical} rows, {len(pairs)} given, {len(bad)} counted'
    return 'skip' if bad else 'ok'


def fuzz_image(folder: Path, draw: random.Random) -> str:
    """An odd image. Shards, pipes, image files and evaluation give the same pixels, or refuse it for the same cause."""
    mode = draw.choice(['RGB', 'L', 'P', 'RGBA', 'LA', '1', 'CMYK', 'I;16'])
    kinds = [kind for kind in ('JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'EPS') if _writable(mode, kind)]
    image, file, exif = _noise(mode), io.BytesIO(), Image.Exif()
    exif[0x0112] = draw.randrange(0, 10)
    kind = draw.choice(kinds)
    image.save(file, kind, **({'exif': exif} if kind in ('JPEG', 'PNG', 'WEBP') else {}))
    data = damage(file.getvalue(), draw) if draw.random() < 0.5 else file.getvalue()
    (folder / 'odd.jpg').write_bytes(data)
    (folder / 'a.jsonl').write_text('{"filepath": "odd.jpg", "caption": "x"}')
    with tarfile.open(folder / 'a.tar', 'w') as tar:
        for name, content in (('odd.jpg', data), ('odd.txt', b'x')):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    views: dict[str, list] = {'image': []}
    readers = [
        lambda: _streamed(ImageTextShards(str(folder / 'a.tar'), views)),
        lambda: _streamed(ImageTextShards(f'pipe:cat {folder}/a.tar', views, num_samples=1)),
        lambda: ImageTextPairs(str(folder / 'a.jsonl'), views)[0]['image'],
        lambda: EvaluationShards(str(folder / 'a.tar'), [])[0]['image'],
    ]
    answers = [_answer(reader) for reader in readers]
    assert len(set(answers)) == 1, f'{kind} of mode {mode}: {[answer[:40] for answer in answers]}'
    return 'ok' if answers[0].startswith(b'pixels') else 'skip'


def _noise(mode: str) -> Image.Image:
    noise = Image.effect_noise((24, 16), 80)
    return noise.convert('I').convert(mode) if mode == 'I;16' else noise.convert('RGBA').convert(mode)


def _writable(mode: str, kind: str) -> bool:
    try:
        Image.new(mode, (2, 2)).save(io.BytesIO(), kind)
    except (OSError, ValueError):
        return False
    return True


def _streamed(dataset: ImageTextShards) -> Any:
    dataset.begin_epoch(0, 0, 1)
    return next(iter(dataset))['image']


_CAUSES = (
    'empty_file', 'not_an_image', 'unsupported_format', 'too_large', 'animated', 'unsupported_mode', 'truncated_image',
)  # fmt: skip


def _answer(read: Callable[[], Any]) -> bytes:
    try:
        pixels = read()
    except CLEAR as error:
        return next(cause for cause in _CAUSES if cause in str(error)).encode()
    return b'pixels' + bytes(str(tuple(pixels.shape)), 'ascii') + pixels.numpy().tobytes()


def fuzz_names(folder: Path, draw: random.Random) -> str:
    """A tar file with odd names. Read locally and through a pipe it gives the same samples in the same order."""
    parts = ['a', '__b', '.c', '._d', 'e.v2', '__f__', 'g h', 'ü']
    keys = [draw.choice(['', 'd/', '__MACOSX/', './', 'x.y/']) + draw.choice(parts) + str(i % 4) for i in range(9)]
    names = [f'{key}.{kind}' for key in keys for kind in draw.choice([('jpg', 'txt'), ('JPG', 'Txt'), ('txt',)])]
    with tarfile.open(folder / 'a.tar', 'w', format=draw.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
        for name in [*names, *draw.sample(['LICENSE', '.DS_Store', '__notes__', 'README.txt'], 2)]:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    local = [(sample.key, sorted(sample.files)) for sample in open_shard(str(folder / 'a.tar'))]
    piped = [(sample.key, sorted(sample.files)) for sample in open_shard(f'pipe:cat {folder}/a.tar')]
    assert local == piped, f'{local} is not {piped}'
    return 'ok'
