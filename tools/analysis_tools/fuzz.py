"""Damage shards, captions, checkpoints and configs at random; each must end in a clear error or a counted skip.

python tools/analysis_tools/fuzz.py --minutes 3 --seed 0

A case that ends in any other exception, or takes longer than 20 seconds, is printed with its seed; ``--only SEED``
repeats it.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import signal
import tarfile
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from PIL import Image

from mmmaskclip.cli.config_check import check_config
from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.utils.checkpoint_files import read_checkpoint, verify_checkpoint, write_checkpoint
from mmmaskclip.utils.setup_env import register_all_modules

# What our own checks raise, with a message; a KeyError or TypeError from inside of a library is none of them.
CLEAR = (ValueError, RuntimeError, FileNotFoundError)
_LIMIT = 20
_SAMPLES = 12


def damage(data: bytes, draw: random.Random) -> bytes:
    """Flip bits, cut off, blank, repeat or insert something in bytes."""
    content = bytearray(data)
    start = draw.randrange(len(content) + 1)
    size = draw.choice([1, 16, 512, 4096])
    kind = draw.choice(['flip', 'cut', 'blank', 'repeat', 'insert'])
    if kind == 'flip':
        for _ in range(draw.choice([1, 10, 200])):
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif kind == 'cut':
        del content[start:]
    elif kind == 'blank':
        content[start : start + size] = bytes(len(content[start : start + size]))
    elif kind == 'repeat':
        content[start:start] = content[start : start + size]
    else:
        content[start:start] = draw.randbytes(size)
    return bytes(content)


def write_shard(path: Path, draw: random.Random, bad_captions: int = 0) -> None:
    """Write a shard of good samples, some with captions of random bytes."""
    with tarfile.open(path, 'w') as tar:
        for index in range(_SAMPLES):
            image = io.BytesIO()
            Image.new('RGB', (16, 16), (index, 2 * index, 90)).save(image, 'JPEG')
            caption = {'caption': f'a caption of {index}', 'captions': ['one', 'two']}
            text = json.dumps(caption).encode()
            if index < bad_captions:
                text = draw.choice([damage(text, draw), draw.randbytes(40), b'null', b'[]', b'{"caption": NaN}', b'{}'])
            for name, data in (('jpg', image.getvalue()), ('json', text)):
                member = tarfile.TarInfo(f'{index:05d}.{name}')
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read_shards(urls: list[str]) -> str:
    """Read an epoch; gives ``'skip'`` where samples were left out and ``'ok'`` where none were."""
    views = {'image': [dict(type='torchvision/Resize', size=[8, 8])]}
    dataset = ImageTextShards(urls, views, caption_key='json:caption', shuffle_buffer=4)
    dataset.begin_epoch(0, 0, 2)
    samples = list(dataset)
    assert len(samples) == len(dataset) // 2 * 2, 'an epoch of another length than was promised'
    return 'skip' if any(sample['skipped'] for sample in samples) else 'ok'


def fuzz_shard(folder: Path, draw: random.Random) -> str:
    """A shard whose bytes are damaged, beside a good one."""
    write_shard(folder / 'good.tar', draw)
    write_shard(folder / 'bad.tar', draw)
    (folder / 'bad.tar').write_bytes(damage((folder / 'bad.tar').read_bytes(), draw))
    return read_shards([str(folder / 'good.tar'), str(folder / 'bad.tar')])


def fuzz_caption(folder: Path, draw: random.Random) -> str:
    """Captions that are damaged or no captions, in whole tar files."""
    write_shard(folder / 'a.tar', draw, bad_captions=draw.randrange(1, _SAMPLES + 1))
    return read_shards([str(folder / 'a.tar')])


def fuzz_checkpoint(folder: Path, draw: random.Random) -> str:
    """A damaged checkpoint: verification must notice it, and reading without the checksum be an error or right."""
    path = folder / 'iter_1.pth'
    good = {'state_dict': {'weight': torch.arange(300.0)}, 'message_hub': {'runtime_info': {}}, 'meta': {'iter': 1}}
    write_checkpoint(path, good)
    before = path.read_bytes()
    path.write_bytes(damage(before, draw))
    if path.read_bytes() == before:
        return 'ok'
    assert verify_checkpoint(path) is not None, 'damage that the checksum does not show'
    read_checkpoint(path)
    return 'skip'


def fuzz_config(folder: Path, draw: random.Random) -> str:
    """A config in which a key is renamed, or a value replaced by one of another kind."""
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs/_base_/default_runtime.py')
    cfg.merge_from_dict({'train_cfg': dict(type='PretrainLoop', max_epochs=2)})
    nodes = [cfg._cfg_dict]
    for node in nodes:
        nodes += [value for value in node.values() if isinstance(value, dict)]
    node = draw.choice([node for node in nodes if node])
    key = draw.choice(sorted(node))
    if draw.random() < 0.5:
        where = draw.randrange(len(key))
        node[key[:where] + draw.choice('xyz_') + key[where + 1 :]] = node.pop(key)
    else:
        node[key] = draw.choice([None, -1, 1.5, 'text', [], {}, {'type': 'Nothing'}, [{'type': 7}], True])
    check_config(cfg)
    return 'ok'


CASES: list[Callable[[Path, random.Random], str]] = [fuzz_shard, fuzz_caption, fuzz_checkpoint, fuzz_config]


def run_case(seed: int) -> tuple[str, str]:
    """Run one case; gives its name and how it ended: ok, skip, error (a clear one), or what should not be."""
    draw = random.Random(seed)
    case = CASES[seed % len(CASES)]

    def stop(*_: Any) -> None:
        raise TimeoutError('it hangs')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LIMIT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return case.__name__, case(Path(folder), draw)
    except CLEAR as error:
        return case.__name__, 'error' if str(error) else f'BAD: {type(error).__name__} without a message'
    except Exception:
        return case.__name__, f'BAD: {traceback.format_exc()}'
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main(argv: Sequence[str] | None = None) -> Counter[tuple[str, str]]:
    """Fuzz for some minutes; prints and returns how often each kind of case ended how.

    Raises:
        SystemExit: With status 1, if a case ended in none of the promised ways.
    """
    parser = argparse.ArgumentParser(description='Damage inputs at random; each must end in a clear error or a skip.')
    parser.add_argument('--minutes', type=float, default=3, help='[3]')
    parser.add_argument('--cases', type=int, help='so many instead of by time')
    parser.add_argument('--seed', type=int, default=0, help='of the first case; the next has the next [0]')
    parser.add_argument('--only', type=int, metavar='SEED', help='run this case alone')
    args = parser.parse_args(argv)
    register_all_modules()
    found: Counter[tuple[str, str]] = Counter()
    first, end = (args.seed, time.monotonic() + 60 * args.minutes) if args.only is None else (args.only, 0)
    wanted = 1 if args.only is not None else args.cases
    seed = first
    while seed - first < wanted if wanted is not None else time.monotonic() < end:
        name, outcome = run_case(seed)
        if outcome.startswith('BAD'):
            print(f'case {seed}: {name}: {outcome}')
        found[name, outcome.split(':')[0]] += 1
        seed += 1
    for (name, outcome), count in sorted(found.items()):
        print(f'{name:<16} {outcome:<6} {count:>7}')
    if any(outcome == 'BAD' for _, outcome in found):
        raise SystemExit(1)
    return found


if __name__ == '__main__':
    main()
