"""Generated scenes: what they hold, and the files that they are written to."""

import io
import json
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.datasets.scenes.captions import write_captions
from mmmaskclip.datasets.scenes.generator import (
    CLASSES,
    IGNORE_INDEX,
    SHAPES,
    draw_image,
    draw_mask,
    object_mask,
    sample_scene,
)
from mmmaskclip.datasets.scenes.writer import SceneSplit, run_lengths, write_folder, write_shards

SPLITS = {
    'train': SceneSplit(7, held_out=False),
    'val': SceneSplit(4, (2, 4)),
    'single': SceneSplit(50, (1, 1)),
}


@pytest.fixture(scope='module')
def shards(tmp_path_factory):
    return write_shards(tmp_path_factory.mktemp('shards'), SPLITS, image_size=32, seed=3, shard_size=5)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('folder')
    write_folder(root, SPLITS, image_size=32, seed=3)
    return root


def read(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def test_same_seed_gives_same_bytes_in_any_number_of_processes(shards, tmp_path):
    again = write_shards(tmp_path / 'again', SPLITS, image_size=32, seed=3, shard_size=5, workers=2)
    other = write_shards(tmp_path / 'other', {'val': SPLITS['val']}, image_size=32, seed=4, shard_size=5)
    assert [path.name for path in again] == [path.name for path in shards]
    assert all(one.read_bytes() == two.read_bytes() for one, two in zip(again, shards, strict=True))
    assert other[0].read_bytes() != shards[2].read_bytes()


def test_shards_are_laid_out_as_img2dataset_does(shards):
    assert [path.name for path in shards[:3]] == ['train-00000.tar', 'train-00001.tar', 'val-00000.tar']
    train, val, single = (read(shards[index]) for index in (1, 2, 3))
    assert sorted(train) == [f'00001000{i}.{ext}' for i in range(2) for ext in ('jpg', 'json', 'txt')]
    assert {name.split('.', 1)[1] for name in val} == {'jpg', 'json', 'txt', 'mask.png'}
    assert {name.split('.', 1)[1] for name in single} == {'jpg', 'json', 'txt', 'mask.png', 'cls'}

    description = json.loads(val['000000002.json'])
    assert description['caption'] == description['captions'][0] == val['000000002.txt'].decode()
    assert len(description['captions']) == 5
    assert description['key'] == '000000002'
    image = Image.open(io.BytesIO(val['000000002.jpg']))
    assert (image.format, image.mode, image.size) == ('JPEG', 'RGB', (32, 32))
    mask = np.asarray(Image.open(io.BytesIO(val['000000002.mask.png'])))
    assert set(np.unique(mask)) == {CLASSES.index(f'{o["colour"]} {o["shape"]}') for o in description['objects']} | {
        IGNORE_INDEX
    }


def test_class_of_a_single_object_is_its_label_and_its_mask(shards):
    labels = []
    for path in shards:
        files = read(path)
        for name in (name for name in files if name.endswith('.cls')):
            label = int(files[name])
            mask = np.asarray(Image.open(io.BytesIO(files[name.replace('cls', 'mask.png')])))
            assert set(np.unique(mask)) == {label, IGNORE_INDEX}
            labels.append(label)
    assert Counter(labels) == Counter([index % len(CLASSES) for index in range(50)])


def test_scenes_keep_to_the_number_of_objects_and_do_not_overlap():
    for index in range(40):
        scene = sample_scene(f'{index}', (2, 4))
        assert 1 <= len(scene.objects) <= 4
        cover = sum(object_mask(thing, 64).astype(int) for thing in scene.objects)
        assert cover.max() == 1
        assert sum(thing.label != IGNORE_INDEX for thing in scene.objects) == len(scene.objects)
    assert len(sample_scene('x', (1, 1), label=6).objects) == 1
    assert sample_scene('x', (1, 1), label=6).objects[0].name == CLASSES[6] == 'green square'


@pytest.mark.parametrize('shape', SHAPES)
def test_every_shape_is_drawn_in_its_colour_where_its_mask_is(shape):
    label = CLASSES.index(f'red {shape}')
    scene = next(s for s in (sample_scene(f'{i}', (1, 1), label) for i in range(99)) if s.background == 'gradient')
    mask = draw_mask(scene.objects, 64) == label
    pixels = np.asarray(draw_image(scene, 64)).astype(int)
    redness = pixels[..., 0] - pixels[..., 1:].max(-1)
    assert mask.sum() > 40
    # At the edge, pixels are mixed; most of the others tell the shape from the greyish background.
    assert (redness[mask] > 90).mean() > 0.8
    assert (redness[~mask] > 90).mean() < 0.02


def test_captions_are_true_and_mention_only_some_objects():
    mentioned = Counter()
    for index in range(60):
        scene = sample_scene(f'{index}', (3, 4))
        names = [thing.name for thing in scene.objects]
        captions = write_captions(scene, f'{index}')
        assert captions == write_captions(scene, f'{index}')
        for caption in captions:
            told = [name for name in CLASSES if name in caption.replace('an orange', 'a orange')]
            assert told, caption
            assert set(told) <= set(names), (caption, names)
            mentioned[len(told)] += 1
            if 'left of' in caption:
                first, second = sorted(told, key=caption.index)[:2] if len(told) > 1 else (told[0], told[0])
                assert min(o.x for o in scene.objects if o.name == first) < max(
                    o.x for o in scene.objects if o.name == second
                )
    assert mentioned[1] > 50
    assert mentioned[2] > 50
    assert mentioned[3] > 20


def test_captions_vary():
    scene = sample_scene('0', (2, 2))
    captions = write_captions(scene, '0', 100)
    assert len(set(captions)) > 30
    assert any(word in ' '.join(captions) for word in ('left', 'right', 'top', 'bottom'))
    assert not any('a orange' in caption for caption in captions)


def test_prompt_file_has_the_classes_in_the_order_of_the_labels():
    assert tuple(names[0] for names in load_prompts('scenes').classes) == CLASSES


def test_folder_is_ade_style(folder, shards):
    image = (folder / 'images' / 'val' / '000000001.jpg').read_bytes()
    assert image == read(shards[2])['000000001.jpg']
    annotation = np.asarray(Image.open(folder / 'annotations' / 'val' / '000000001.png'))
    mask = np.asarray(Image.open(io.BytesIO(read(shards[2])['000000001.mask.png'])))
    assert (annotation == np.where(mask == IGNORE_INDEX, 0, mask + 1)).all()
    assert len(list((folder / 'images' / 'single').iterdir())) == 50


def test_coco_boxes_and_masks_agree_with_the_segmentation(folder):
    coco_module = pytest.importorskip('pycocotools.coco', reason='detection extra not installed')
    coco = coco_module.COCO(str(folder / 'coco' / 'single.json'))
    assert [category['name'] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    kinds = Counter()
    for annotation in coco.loadAnns(coco.getAnnIds()):
        info = coco.loadImgs(annotation['image_id'])[0]
        truth = np.asarray(Image.open(folder / 'annotations' / 'single' / info['file_name'].replace('jpg', 'png')))
        inside = truth == annotation['category_id']
        decoded = coco.annToMask(annotation).astype(bool)
        overlap = (decoded & inside).sum() / (decoded | inside).sum()
        # pycocotools fills a polygon a little differently from PIL.
        assert overlap == 1 if isinstance(annotation['segmentation'], dict) else overlap > 0.7
        kinds[type(annotation['segmentation'])] += 1
        x, y, width, height = annotation['bbox']
        assert inside[y : y + height, x : x + width].sum() == inside.sum() == annotation['area']
        assert inside[y].any()
        assert inside[:, x + width - 1].any()
    assert kinds[dict] > 0
    assert kinds[list] > 0


@pytest.mark.parametrize('first', [0, 1])
def test_run_lengths_start_with_zeros(first):
    mask = np.array([[first, 1], [0, 1]], dtype=bool)
    assert run_lengths(mask) == {'counts': [0, 1, 1, 2] if first else [2, 2], 'size': [2, 2]}


def test_shard_size_that_keys_have_no_room_for(tmp_path):
    with pytest.raises(ValueError, match='shard_size is 20000'):
        write_shards(tmp_path, SPLITS, shard_size=20000)


def test_shards_of_an_earlier_larger_set_do_not_stay(tmp_path):
    write_shards(tmp_path, {'val': SceneSplit(6), 'other': SceneSplit(1)}, image_size=16, shard_size=2)
    written = write_shards(tmp_path, {'val': SceneSplit(3)}, image_size=16, shard_size=2)
    assert sorted(tmp_path.iterdir()) == [tmp_path / 'other-00000.tar', *written]
