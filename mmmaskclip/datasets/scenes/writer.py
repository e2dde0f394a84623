"""Writes generated scenes as files: tar shards, an ADE-style folder and COCO json."""

import io
import json
import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image
from webdataset import TarWriter

from mmmaskclip.datasets.scenes.captions import write_captions
from mmmaskclip.datasets.scenes.generator import (
    CLASSES,
    IGNORE_INDEX,
    Scene,
    draw_image,
    draw_mask,
    object_mask,
    outline,
    sample_scene,
)
from mmmaskclip.datasets.scenes.harder import HardScene, draw_hard_image, sample_hard_scene


@dataclass(frozen=True)
class SceneSplit:
    """Number and kind of the scenes of a split.

    Attributes:
        num_images: Number of scenes.
        num_objects: Fewest and most objects per scene. With ``(1, 1)`` the object's class is the image's class. The
            classes then take turns, and every held-out sample gets a ``cls`` file.
        held_out: Whether samples carry the files of evaluation: ``mask.png``, and ``cls`` if the image has a class.
        harder: Whether the scenes are those of :mod:`~mmmaskclip.datasets.scenes.harder`. Defaults to False.
    """

    num_images: int
    num_objects: tuple[int, int] = (1, 3)
    held_out: bool = True
    harder: bool = False

    @property
    def has_class(self) -> bool:
        """Whether every image of this split has exactly one class."""
        return self.num_objects == (1, 1)


@dataclass(frozen=True)
class SceneSample:
    """One generated scene, ready to be written.

    Attributes:
        key: Nine digits, as img2dataset names samples: number of the shard, then number of the sample in the shard.
        scene: Content of the image.
        image: The RGB image.
        mask: uint8 (size, size), see ``draw_mask``; None if the split is not held out.
        captions: Sentences about some of the objects.
        label: Class of the image; None if the image has several objects.
    """

    key: str
    scene: Scene
    image: Image.Image
    mask: np.ndarray | None
    captions: list[str]
    label: int | None


def default_splits(num_train: int = 6000, num_held_out: int = 720) -> dict[str, SceneSplit]:
    """The splits used by the quickstart and its config.

    Args:
        num_train: Scenes to pretrain on.
        num_held_out: Scenes in each held-out split. A multiple of 40 gives every class equally many images.

    Returns:
        ``train`` (1 to 3 objects, no labels), ``val`` (2 to 3 objects: retrieval, segmentation) and ``single`` (one
        object: classification).
    """
    return {
        'train': SceneSplit(num_train, held_out=False),
        'val': SceneSplit(num_held_out, (2, 3)),
        'single': SceneSplit(num_held_out, (1, 1)),
    }


def generate(
    name: str, split: SceneSplit, start: int, stop: int, image_size: int, seed: int, shard_size: int
) -> Iterator[SceneSample]:
    """Generate the scenes ``start`` to ``stop`` of a split. Each scene depends on (seed, name, index) alone.

    Args:
        name: The split's name.
        split: Kind of its scenes.
        start: First index.
        stop: One past the last index.
        image_size: Side of the images in pixels.
        seed: Seed of the whole dataset.
        shard_size: Scenes per shard, for the keys.

    Yields:
        The samples in order.
    """
    for index in range(start, stop):
        label = index % len(CLASSES) if split.has_class else None
        sample_seed = f'{seed}/{name}/{index}'
        if split.harder:
            scene: Scene = sample_hard_scene(sample_seed, split.num_objects, label)
            image = draw_hard_image(cast(HardScene, scene), image_size)
        else:
            scene = sample_scene(sample_seed, split.num_objects, label)
            image = draw_image(scene, image_size)
        yield SceneSample(
            key=f'{index // shard_size:05d}{index % shard_size:04d}',
            scene=scene,
            image=image,
            mask=draw_mask(scene.objects, image_size) if split.held_out else None,
            captions=write_captions(scene, sample_seed),
            label=label,
        )


def _encode(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **({'quality': 92} if kind == 'JPEG' else {}))
    return stream.getvalue()


def _description(sample: SceneSample) -> bytes:
    """img2dataset's json for an image (caption, key, status, size), plus all captions and objects."""
    return json.dumps(
        {
            'key': sample.key,
            'status': 'success',
            'caption': sample.captions[0],
            'captions': sample.captions,
            'width': sample.image.width,
            'height': sample.image.height,
            'objects': [vars(thing) for thing in sample.scene.objects],
        }
    ).encode()


def _write_shard(
    root: Path, name: str, split: SceneSplit, number: int, image_size: int, seed: int, shard_size: int
) -> None:
    start, stop = number * shard_size, min((number + 1) * shard_size, split.num_images)
    path = root / f'{name}-{number:05d}.tar'
    # Atomic write: an interrupted run leaves no incomplete shard under the final name.
    partial = path.with_suffix('.tar.partial')
    # A fixed modification time: two runs write the same bytes.
    with partial.open('wb') as stream, TarWriter(stream, encoder=False, mtime=0) as tar:
        for sample in generate(name, split, start, stop, image_size, seed, shard_size):
            files: dict[str, str | bytes] = {
                '__key__': sample.key,
                'jpg': _encode(sample.image, 'JPEG'),
                'txt': sample.captions[0].encode(),
                'json': _description(sample),
            }
            if sample.mask is not None:
                files['mask.png'] = _encode(Image.fromarray(sample.mask), 'PNG')
                if sample.label is not None:
                    files['cls'] = str(sample.label).encode()
            tar.write(files)
    partial.replace(path)


def write_shards(
    root: str | Path,
    splits: Mapping[str, SceneSplit],
    image_size: int = 64,
    seed: int = 0,
    shard_size: int = 500,
    workers: int = 1,
) -> list[Path]:
    """Write tar shards as img2dataset lays them out: ``KEY.jpg``, ``KEY.txt`` (first caption), ``KEY.json`` (with
    ``captions``), and for held-out splits ``KEY.mask.png`` and ``KEY.cls``. The same arguments give the same bytes.
    Older shards of these splits are deleted from the folder first: a pattern such as ``train-*.tar`` would match them.

    Args:
        root: Folder for ``SPLIT-00000.tar`` and so on.
        splits: The splits by name.
        image_size: Side of the images in pixels.
        seed: Seed of the whole dataset.
        shard_size: Scenes per shard.
        workers: Processes. The bytes do not depend on their number.

    Returns:
        The shards' paths, in order.

    Raises:
        ValueError: If ``shard_size`` is not in 1 to 10,000: a key has four digits for the sample.
    """
    if not 0 < shard_size <= 10_000:
        raise ValueError(f'shard_size is {shard_size}; a key has 4 digits for it: choose 1 to 10000')
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    for name in splits:
        for old in root.glob(f'{name}-?????.tar'):
            old.unlink()
    jobs = [
        (root, name, split, number, image_size, seed, shard_size)
        for name, split in splits.items()
        for number in range(-(-split.num_images // shard_size))
    ]
    if workers > 1:
        # Not a fork: this process may have threads, whose locks a fork would hold for ever.
        with ProcessPoolExecutor(workers, multiprocessing.get_context('forkserver')) as pool:
            list(pool.map(_write_shard, *zip(*jobs, strict=True)))
    else:
        for job in jobs:
            _write_shard(*job)
    return [job[0] / f'{job[1]}-{job[3]:05d}.tar' for job in jobs]


def write_folder(root: str | Path, splits: Mapping[str, SceneSplit], image_size: int = 64, seed: int = 0) -> None:
    """Write the scenes as mmseg and mmdet read them.

    The files are ``images/SPLIT/KEY.jpg``, ``annotations/SPLIT/KEY.png`` as in ADE20K (0 = background, 1..40 = classes:
    ``reduce_zero_label=True``), and ``coco/SPLIT.json`` (boxes and masks).

    Args:
        root: Folder to write into.
        splits: The splits by name.
        image_size: Side of the images in pixels.
        seed: Seed of the whole dataset. The scenes are those of ``write_shards`` with the same seed.
    """
    root = Path(root)
    for name, split in splits.items():
        coco: dict[str, list] = {
            'images': [],
            'annotations': [],
            'categories': [{'id': index + 1, 'name': label} for index, label in enumerate(CLASSES)],
        }
        for folder in (root / 'images' / name, root / 'annotations' / name, root / 'coco'):
            folder.mkdir(parents=True, exist_ok=True)
        for sample in generate(name, split, 0, split.num_images, image_size, seed, 10_000):
            (root / 'images' / name / f'{sample.key}.jpg').write_bytes(_encode(sample.image, 'JPEG'))
            mask = draw_mask(sample.scene.objects, image_size)
            classes_from_one = np.where(mask == IGNORE_INDEX, 0, mask + 1).astype(np.uint8)
            (root / 'annotations' / name / f'{sample.key}.png').write_bytes(
                _encode(Image.fromarray(classes_from_one), 'PNG')
            )
            _add_to_coco(coco, sample, image_size)
        (root / 'coco' / f'{name}.json').write_text(json.dumps(coco))


def _add_to_coco(coco: dict[str, list], sample: SceneSample, size: int) -> None:
    image_id = len(coco['images']) + 1
    coco['images'].append({'id': image_id, 'file_name': f'{sample.key}.jpg', 'width': size, 'height': size})
    for thing in sample.scene.objects:
        mask = object_mask(thing, size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]), int(rows[0])
        # A polygon cannot have a hole, so a ring is written as run lengths.
        polygon = [round(value, 2) for point in outline(thing, size) for value in point]
        coco['annotations'].append(
            {
                'id': len(coco['annotations']) + 1,
                'image_id': image_id,
                'category_id': thing.label + 1,
                'bbox': [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
                'area': int(mask.sum()),
                'segmentation': run_lengths(mask) if thing.shape == 'ring' else [polygon],
                'iscrowd': 0,
            }
        )


def run_lengths(mask: np.ndarray) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths. pycocotools has them too, but only detection needs that dependency.

    Args:
        mask: Bool array (H, W).

    Returns:
        ``{'counts': lengths of runs down the columns, starting with zeros, 'size': [H, W]}``.
    """
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {'counts': ([0] if flat[0] else []) + runs, 'size': list(mask.shape)}
