"""Every set's public layout, as its config reads it; CLIP_benchmark's layout; what is wrong is named."""

import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import webdataset
from mmengine.config import Config
from PIL import Image

from mmmaskclip.datasets import LabelledImages
from mmmaskclip.datasets.labelled_images import MissingImages
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.registry import DATASETS
from mmmaskclip.utils.setup_env import register_all_modules

CONFIGS = Path(__file__).parents[2] / 'configs/zero_shot'
SETS = sorted(path.stem for path in CONFIGS.glob('*.py') if not path.stem.startswith('suite_'))
TRANSFORMS = [dict(type='torchvision/Resize', size=8)]

_spec = importlib.util.spec_from_file_location('layouts', Path(__file__).with_name('classification_layouts.py'))
layouts = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(layouts)


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules()


@pytest.fixture(autouse=True)
def _checksums_of_copies(monkeypatch):
    """torchvision knows the checksums of the real files."""
    for name in ('cifar', 'stl10', 'fer2013', 'flowers102'):
        monkeypatch.setattr(getattr(torchvision.datasets, name), 'check_integrity', lambda *_args, **_kwargs: True)


def config_of(name, root, monkeypatch):
    monkeypatch.setenv('MMMASKCLIP_EVAL', str(root))
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    (key,) = cfg.test_dataloader
    dataset = cfg.test_dataloader[key].dataset
    dataset.transforms = TRANSFORMS
    return dataset, cfg.test_evaluator[key]


@pytest.mark.parametrize('name', [name for name in SETS if 'patch_camelyon' not in name])
def test_public_layout(name, tmp_path, monkeypatch):
    cfg, metric = config_of(name, tmp_path, monkeypatch)
    classes = load_prompts(cfg.classes).classes
    base = name if name in layouts.WRITERS else name.removesuffix('_icinw')
    layouts.write(base, tmp_path, classes)
    if 'per_class' in cfg:
        assert cfg.per_class == (1000, 1500)
        cfg.per_class = (1, 3)
    samples = 20 if base == 'voc2007' else layouts.PER_CLASS * cfg.num_classes
    assert cfg.get('num_samples', 10**9) > samples
    cfg.num_samples = samples
    dataset = DATASETS.build(cfg)
    assert (len(dataset), len(dataset.metainfo['classes'])) == (samples, len(classes))
    grey = base in ('mnist', 'fer2013')
    for index in range(0, samples, max(1, samples // 300)):
        sample = dataset[index]
        assert sample['image'].shape[0] == 3
        assert sample['image'].dtype == torch.uint8
        found = (
            round((sample['image'].float().mean().item() - 8) / 16) if grey else layouts.number(sample['image'].numpy())
        )
        label = sample['label']
        assert (label[found] == 1 and 1 <= label.sum() <= 2) if base == 'voc2007' else label == found
    assert len({dataset[index]['key'] for index in range(min(samples, 40))}) == min(samples, 40)


@pytest.mark.parametrize('name', SETS)
def test_dataset_and_metric_name_the_same_classes(name, monkeypatch, tmp_path):
    dataset, metric = config_of(name, tmp_path, monkeypatch)
    assert dataset.classes == metric.classes
    prompts = load_prompts(metric.classes)
    assert len(prompts.classes) == dataset.num_classes
    assert load_prompts(metric.get('templates', metric.classes)).templates


def test_difficult_objects_count_as_present(tmp_path, monkeypatch):
    cfg, _ = config_of('voc2007', tmp_path, monkeypatch)
    classes = load_prompts(cfg.classes).classes
    layouts.write('voc2007', tmp_path, classes)
    cfg.num_samples = 20
    label = DATASETS.build(cfg)[0]['label']
    assert (label.dtype, label.sum()) == (torch.int64, 2)


CLASSES = [['small cat', 'kitten'], ['dog'], ['Bird']]


def folder(tmp_path, names=('bird', 'dog', 'kitten'), per_class=2):
    for name in names:
        for index in range(per_class):
            layouts.save(tmp_path / f'set/{name}/{index}.png', layouts.by_name([name], [*CLASSES, ['fish']])[0])
    return dict(
        source=dict(type='torchvision/ImageFolder', root=str(tmp_path / 'set')),
        folder=str(tmp_path / 'set'),
        classes=CLASSES,
        transforms=TRANSFORMS,
        num_classes=3,
        get='Ask for it.',
    )


def test_labels_follow_names_and_synonyms(tmp_path):
    dataset = LabelledImages(**folder(tmp_path), num_samples=6)
    assert [dataset[index]['label'] for index in range(6)] == [2, 2, 1, 1, 0, 0]
    assert all(layouts.number(sample['image'].numpy()) == sample['label'] for sample in dataset)
    assert dataset.metainfo == {'classes': ('small cat', 'dog', 'Bird')}
    assert dataset[3]['key'] == 'set/3'


def test_wrong_counts_are_named(tmp_path):
    cfg = folder(tmp_path)
    with pytest.raises(ValueError, match='has 6 samples, but the protocol of set has 9: this is another split'):
        LabelledImages(**cfg, num_samples=9)
    with pytest.raises(ValueError, match='set has 4 classes, but .* names 3'):
        LabelledImages(**{**cfg, 'num_classes': 4})
    (tmp_path / 'set/dog/0.png').unlink()
    (tmp_path / 'set/dog/1.png').unlink()
    cfg['source']['allow_empty'] = True
    with pytest.raises(
        ValueError, match=r'images of 2 classes, but the protocol of set has 3: no image of classes \[1\]'
    ):
        LabelledImages(**cfg)


def test_class_too_many_is_named(tmp_path):
    cfg = folder(tmp_path)
    layouts.save(tmp_path / 'set/zebra/0.png', 0)
    with pytest.raises(ValueError, match="its classes are not those of the prompts: .*'kitten' is 2 here and 0 there"):
        LabelledImages(**cfg)
    layouts.save(tmp_path / 'other/0/0.png', 0)
    cfg['source']['root'] = str(tmp_path / 'other')
    with pytest.raises(ValueError, match=r'images of 1 classes, but .* has 3: no image of classes \[1, 2\]'):
        LabelledImages(**cfg)


def test_missing_folder_says_how_to_get_it(tmp_path):
    cfg = folder(tmp_path)
    with pytest.raises(MissingImages, match=r'no folder .*nowhere nor shards .*\*\.tar\. Ask for it\.'):
        LabelledImages(**{**cfg, 'folder': str(tmp_path / 'nowhere'), 'shards': str(tmp_path / '*.tar')})
    assert issubclass(MissingImages, FileNotFoundError)


def test_damaged_copy_is_no_missing_one(tmp_path):
    (tmp_path / 'cifar-10-batches-py').mkdir()
    cfg = {**folder(tmp_path), 'source': dict(type='torchvision/CIFAR10', root=str(tmp_path), train=False)}
    with pytest.raises(ValueError, match='is not as torchvision/CIFAR10 reads it'):
        LabelledImages(**{**cfg, 'folder': str(tmp_path / 'cifar-10-batches-py')})
    with pytest.raises(ValueError, match="torchvision has no dataset 'CIFAR11'"):
        LabelledImages(**{**cfg, 'source': dict(type='torchvision/CIFAR11')})


def shards(tmp_path, labels, names=('small cat', 'dog', 'bird'), key='cls'):
    (tmp_path / 'wds/test').mkdir(parents=True)
    for part in range(2):
        with webdataset.TarWriter(str(tmp_path / f'wds/test/{part}.tar')) as writer:
            for index, (label, shown) in list(enumerate(labels))[part::2]:
                image = io.BytesIO()
                Image.fromarray(layouts.pixels(shown)).save(image, 'webp', lossless=True)
                writer.write({'__key__': f's{index:07d}', 'webp': image.getvalue(), key: label})
    if names:
        (tmp_path / 'wds/classnames.txt').write_text('\n'.join(names) + '\n')
    cfg = folder(tmp_path)
    return {**cfg, 'folder': str(tmp_path / 'none'), 'shards': str(tmp_path / 'wds/test/*.tar'), 'label_key': key}


def test_layout_of_clip_benchmark(tmp_path):
    cfg = shards(tmp_path, [(0, 1), (1, 2), (2, 0), (2, 0)], names=('dog', 'bird', 'small cat'))
    dataset = LabelledImages(**cfg, num_samples=4)
    assert sorted(sample['label'] for sample in dataset) == [0, 0, 1, 2]
    assert all(layouts.number(sample['image'].numpy()) == sample['label'] for sample in dataset)
    with pytest.raises(ValueError, match='has 4 samples'):
        LabelledImages(**cfg, num_samples=5)


def test_several_labels_in_the_layout_of_clip_benchmark(tmp_path):
    rows = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]], dtype=np.float32)
    cfg = shards(tmp_path, [(row, 0) for row in rows], names=('dog', 'bird', 'small cat'), key='npy')
    found = {sample['key']: sample['label'].tolist() for sample in LabelledImages(**cfg, num_samples=3)}
    # The first shard has the first and the third sample.
    assert list(found.values()) == [[0, 1, 0], [1, 0, 0], [1, 0, 1]]


def test_shards_of_other_classes_are_refused(tmp_path):
    cfg = shards(tmp_path, [(0, 0), (1, 1), (2, 2)], names=('three', 'four', 'bird'))
    with pytest.raises(ValueError, match='only 1 of 3 names are the same'):
        LabelledImages(**cfg)
    assert LabelledImages(**cfg, shards_label_order=[2, 1, 0])[0]['label'] == 2


def test_label_beyond_the_order_is_named(tmp_path):
    with pytest.raises(ValueError, match=r'has the labels \[2\], which are none of \[0, 1\]'):
        LabelledImages(**folder(tmp_path), label_order=[0, 1])


def test_mapped_to_batches_of_workers(tmp_path):
    dataset = LabelledImages(**folder(tmp_path))
    loader = torch.utils.data.DataLoader(dataset, 4, num_workers=1, collate_fn=list)
    assert [sample['label'] for batch in loader for sample in batch] == [2, 2, 1, 1, 0, 0]


def test_package_that_a_layout_needs_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'h5py', None)
    (tmp_path / 'pcam').mkdir()
    cfg, _ = config_of('patch_camelyon', tmp_path, monkeypatch)
    with pytest.raises(ValueError, match='pcam is not as torchvision/PCAM reads it: h5py is not found'):
        DATASETS.build(cfg)
