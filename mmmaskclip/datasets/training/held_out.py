"""Splits pairs into training and held-out pairs. A hash of the name decides, so the split is the same each time."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmmaskclip.datasets.sampling import BadSample, stable_hash
from mmmaskclip.datasets.training.auto import find_data
from mmmaskclip.datasets.training.captions import CaptionReader
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import IMAGE_KEYS
from mmmaskclip.datasets.training.shard_counts import count_samples
from mmmaskclip.datasets.training.shard_reading import open_shard
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image

# More pairs make retrieval slower and hardly more exact.
_MOST, _SHARE, _SHARE_OF_FEW = 1000, 0.05, 0.2
_FEW = 100
_MOST_COPIED = 4 * 1024**3  # bytes


def split_pairs(
    path: str | Sequence[str], folder: str | os.PathLike, image_key: str | None = None, caption_key: Any = None
) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Hold out a twentieth of the pairs, at most 1,000 images; of a few hundred images 100, or a fifth.

    A list or folder of images becomes two lists in ``folder``. Of a Hugging Face data set, the held-out images are
    copied into ``folder``, beside a list of their names, which training leaves out. Of shards, the last ones are held
    out: training leaves them out, and up to 1,000 of their images are copied. If there are too few shards, all images
    are copied, up to 4 GB, and become two lists. Images that cannot be used are not held out.

    Args:
        path: The pairs, see :func:`~mmmaskclip.datasets.training.auto.find_data`.
        folder: Folder for the lists and images.
        image_key: See :func:`~mmmaskclip.datasets.training.auto.find_data`.
        caption_key: Likewise.

    Returns:
        Arguments, with ``type``, of the training and of the held-out dataset, without transforms; the number of images
        or samples to train on.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If the data cannot be read or split; the message says what to do.
    """
    found = find_data(path, image_key, caption_key)
    Path(folder).mkdir(parents=True, exist_ok=True)
    if found.kind == 'shards':
        return _split_shards(found.options, Path(folder))
    if found.kind == 'arrow':
        return _split_arrow(found.options, Path(folder))
    return _split_list(found.options, Path(folder))


def read_pairs_at(
    path: str | Sequence[str], image_key: str | None = None, caption_key: Any = None
) -> tuple[dict[str, Any], int]:
    """Arguments, with ``type``, of the training dataset of all pairs at a path, and how many images or samples."""
    found = find_data(path, image_key, caption_key)
    if found.kind == 'shards':
        return dict(type='ImageTextShards', **found.options), count_samples(expand_urls(found.options['urls'])).total
    options = {**found.options, 'ann_file': os.path.abspath(found.options['ann_file'])}
    options['data_root'] = os.path.abspath(options['data_root'])
    return dict(type='ImageTextPairs', **options), len(ImageTextPairs(views=dict(image=[]), **options))


def held_out_at(path: str | Sequence[str], image_key: str | None = None, caption_key: Any = None) -> dict[str, Any]:
    """Arguments, with ``type``, of the evaluation dataset of pairs that the user has held out."""
    found = find_data(path, image_key, caption_key)
    if found.kind == 'shards':
        return dict(type='EvaluationShards', **found.options)
    return dict(type='ImageTextPairs', test_mode=True, **found.options)


def _number(total: int) -> int:
    return max(1, min(_MOST, max(int(total * _SHARE), min(_FEW, int(total * _SHARE_OF_FEW)))))


def _split_list(options: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    pairs = ImageTextPairs(views=dict(image=[]), **options)
    chosen = _choose(pairs)
    lists = {False: folder / 'pairs_train.jsonl', True: folder / 'pairs_held_out.jsonl'}
    for held_out, file in lists.items():
        rows = (pairs.row(index) for index in range(len(pairs)) if (index in chosen) is held_out)
        root = os.path.abspath(pairs.data_root)
        _write(file, ({'image': os.path.join(root, name), 'captions': captions} for name, captions in rows))
    return _of_list(lists[False]), _of_list(lists[True], test_mode=True), len(pairs) - len(chosen)


def _split_arrow(options: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    options = {**options, **{name: os.path.abspath(options[name]) for name in ('ann_file', 'data_root')}}
    pairs = ImageTextPairs(views=dict(image=[]), **options)
    chosen = sorted(_choose(pairs))
    (folder / 'held_out').mkdir(exist_ok=True)
    rows = []
    for number, index in enumerate(chosen):
        file = folder / 'held_out' / f'{number:04}.image'
        _, data, captions = pairs.raw(index)
        file.write_bytes(data)
        rows.append({'image': str(file.absolute()), 'captions': captions})
    _write(folder / 'pairs_held_out.jsonl', iter(rows))
    names = folder / 'names_held_out.txt'
    names.write_text(''.join(f'{pairs.row(index)[0]}\n' for index in chosen), encoding='utf-8')
    training = dict(type='ImageTextPairs', **options, leave_out=str(names.absolute()))
    return training, _of_list(folder / 'pairs_held_out.jsonl', test_mode=True), len(pairs) - len(chosen)


def _choose(pairs: ImageTextPairs) -> set[int]:
    if len(pairs) < 4:
        raise ValueError(
            f'{pairs.ann_file} has {len(pairs)} images with captions: 4 are the least to train on and hold out'
        )
    number = _number(len(pairs))
    chosen: set[int] = set()
    for index in sorted(range(len(pairs)), key=lambda index: stable_hash('held out', pairs.row(index)[0])):
        if len(chosen) == number:
            break
        if _usable(pairs, index):
            chosen.add(index)
    if not chosen:
        raise ValueError(f'none of the {len(pairs)} images of {pairs.ann_file} can be used')
    return chosen


def _usable(pairs: ImageTextPairs, index: int) -> bool:
    try:
        decode_image(pairs.raw(index)[1], DEFAULT_MAX_PIXELS)
    except BadSample:
        return False
    return True


def _split_shards(options: dict[str, Any], folder: Path) -> tuple[dict[str, Any], dict[str, Any], int]:
    shards = expand_urls(options['urls'])
    remedy = 'give held_out=PATH with pairs to evaluate on'
    if remote := [shard for shard in shards if not is_indexable(shard)]:
        raise ValueError(f'{remote[0]} is no local, uncompressed tar file, of which pairs can be held out: {remedy}')
    counts = count_samples(shards)
    number, first, held = _number(counts.total), len(shards), 0
    while held < number and first:
        first -= 1
        held += int(counts.samples[first])
    if first == 0 or held > max(number, _SHARE_OF_FEW * counts.total):
        if sum(os.path.getsize(shard) for shard in shards) <= _MOST_COPIED:
            return _split_list(_unpacked(shards, options['caption_key'], folder, counts.total), folder)
        raise ValueError(
            f'{len(shards)} shards of {counts.total} pairs cannot be split: whole shards are held out, and the last '
            f'ones have {held}. {remedy[0].upper()}{remedy[1:]}, or make more and smaller shards of them with '
            'tools/dataset_converters/make_shards.py'
        )
    file = folder / 'pairs_held_out.jsonl'
    _write(file, _copied(shards[first:], options['caption_key'], folder / 'held_out', number))
    training = dict(type='ImageTextShards', **{**options, 'urls': [os.path.abspath(shard) for shard in shards[:first]]})
    return training, _of_list(file, test_mode=True), counts.total - held


def _unpacked(shards: Sequence[str], caption_key: Any, folder: Path, number: int) -> dict[str, Any]:
    _write(folder / 'pairs.jsonl', _copied(shards, caption_key, folder / 'images', number))
    options = _of_list(folder / 'pairs.jsonl')
    return {name: value for name, value in options.items() if name != 'type'}


def _copied(shards: Sequence[str], caption_key: Any, folder: Path, number: int) -> Iterator[dict[str, Any]]:
    captions, copied = CaptionReader(caption_key), 0
    folder.mkdir(exist_ok=True)
    for shard in shards:
        for sample in open_shard(shard):
            kind = next((kind for kind in IMAGE_KEYS if kind in sample.files), '')
            try:
                texts = captions(sample.files)
                decode_image(sample.files.get(kind, b''), DEFAULT_MAX_PIXELS)
            except BadSample:
                continue
            if copied == number:
                return
            file = folder / f'{copied:04}.{kind}'
            file.write_bytes(sample.files[kind])
            copied += 1
            yield {'image': str(file.absolute()), 'captions': texts}


def _of_list(file: Path, **kwargs: Any) -> dict[str, Any]:
    keys = dict(format='jsonl', image_key='image', caption_key='captions')
    return dict(type='ImageTextPairs', ann_file=str(file.absolute()), data_root='/', **keys, **kwargs)


def _write(file: Path, rows: Iterator[dict[str, Any]]) -> None:
    with open(file, 'w', encoding='utf-8') as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + '\n' for row in rows)
