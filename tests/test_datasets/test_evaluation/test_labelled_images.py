"""Every set's public layout, as its config reads it; CLIP_benchmark's layout; what is wrong is named."""

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import paths
import pytest
import torch
import torchvision
import webdataset
from config_tables import with_zero_shot_sets
from mmengine.config import Config, ConfigDict
from PIL import Image

from mmmaskclip.datasets import LabelledImages
from mmmaskclip.datasets.evaluation.labelled_images import MissingImages
from mmmaskclip.datasets.evaluation.zero_shot_sets import SUITES, ZERO_SHOT_SETS
from mmmaskclip.datasets.evaluation.zero_shot_tasks import METRICS, labelled_images, markdown_table, tasks
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import DATASETS

CONFIGS = paths.CONFIGS / 'zero_shot'
SETS = sorted(ZERO_SHOT_SETS)
TRANSFORMS = [dict(type='torchvision/Resize', size=8)]

layouts = paths.load_module(Path(__file__).with_name('classification_layouts.py'))


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules()


@pytest.fixture(autouse=True)
def _checksums_of_copies(monkeypatch):
    """torchvision knows the checksums of the real files."""
    for name in ('cifar', 'stl10', 'fer2013', 'flowers102'):
        monkeypatch.setattr(getattr(torchvision.datasets, name), 'check_integrity', lambda *_args, **_kwargs: True)


def config_of(name, root):
    loaders, evaluators = tasks(name, str(root))
    ((task, loader),) = loaders.items()
    dataset = ConfigDict(loader['dataset'])
    dataset.transforms = TRANSFORMS
    return dataset, evaluators[task]


@pytest.mark.parametrize('name', [name for name in SETS if 'patch_camelyon' not in name])
def test_public_layout(name, tmp_path):
    cfg, _ = config_of(name, tmp_path)
    classes = load_prompts(cfg.classes).classes
    base = name.removesuffix('_icinw')
    layouts.write(ZERO_SHOT_SETS[name], tmp_path, classes)
    if cfg.get('per_class'):
        cfg.per_class = (1, 3)
    samples = 20 if base == 'voc2007' else layouts.PER_CLASS * cfg.num_classes
    assert (cfg.num_samples or 10**9) > samples
    cfg.num_samples = samples
    dataset = DATASETS.build(cfg)
    assert (len(dataset), len(dataset.metainfo['classes'])) == (samples, len(classes))
    grey = name in ('mnist', 'fer2013')
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


@pytest.mark.parametrize('name', [name for name in SETS if ZERO_SHOT_SETS[name].shards])
def test_shards_alone(name, tmp_path):
    cfg, _ = config_of(name, tmp_path)
    names = [synonyms[0] for synonyms in load_prompts(cfg.classes).classes]
    # A class with another's name cannot be told by it.
    order = list(range(len(names)))[:: -1 if len(set(names)) == len(names) else 1]
    labels = cfg.get('shards_label_order') or [order.index(place) for place in range(len(names))]
    path = Path(cfg.shards)
    path.parent.mkdir(parents=True)
    if not cfg.get('shards_label_order'):
        (path.parent.parent / 'classnames.txt').write_text('\n'.join(names[place] for place in order))
    with webdataset.TarWriter(str(path.parent / '0.tar')) as writer:
        for shown, label in enumerate(labels):
            image = io.BytesIO()
            Image.fromarray(layouts.pixels(shown)).save(image, 'png')
            several = np.eye(len(names), dtype=np.float32)[label]
            value = several if cfg.get('label_key') == 'npy' else label
            writer.write({'__key__': f's{shown:07d}', 'png': image.getvalue(), cfg.get('label_key', 'cls'): value})
    cfg.num_samples = len(names)
    dataset = DATASETS.build(cfg)
    assert len(dataset) == len(names)
    for sample in (dataset[index] for index in range(0, len(names), max(1, len(names) // 50))):
        found = layouts.number(sample['image'].numpy())
        assert int(np.argmax(sample['label'])) == found if cfg.get('label_key') else sample['label'] == found


@pytest.mark.parametrize('name', [name for name in SETS if not ZERO_SHOT_SETS[name].shards])
def test_shards_of_another_split_are_not_read(name, tmp_path):
    cfg, _ = config_of(name, tmp_path)
    assert cfg.get('shards') is None
    with pytest.raises(MissingImages, match=r'There is no folder [^,]*\. '):
        DATASETS.build(cfg)


def test_order_of_kittis_shards_is_vtabs(tmp_path):
    cfg, _ = config_of('kitti_distance_icinw', tmp_path)
    # VTAB (task_adaptation/data/kitti.py) counts distances up: below 8 m, below 20 m, farther, no vehicle.
    vtab = ['on my left or right side', 'nearby', 'in the distance', 'no car']
    names = [synonyms[0] for synonyms in load_prompts(cfg.classes).classes]
    assert all(vtab[label] in name for name, label in zip(names, cfg.shards_label_order, strict=True))


def test_table_of_the_docs_is_that_of_the_package():
    docs = (paths.ROOT / 'docs/evaluation.md').read_text(encoding='utf-8')
    # `python tests/config_tables.py` writes it.
    assert markdown_table() in docs
    assert with_zero_shot_sets(docs.replace('| `cifar10` |', '| `other` |')) == docs


def test_each_row_has_its_config_and_each_config_its_row(monkeypatch):
    monkeypatch.setenv('MMMASKCLIP_EVAL', 'SETS')
    suites = {f'suite_{name}': name for name in SUITES}
    assert {path.stem for path in CONFIGS.glob('*.py')} == {*SETS, *suites}
    for path in CONFIGS.glob('*.py'):
        cfg = Config.fromfile(path)
        resize = 'bicubic' if path.stem == 'suite_icinw20' else None
        loaders, evaluators = tasks(suites.get(path.stem, path.stem), 'SETS', resize)
        assert (cfg.test_dataloader.to_dict(), cfg.test_evaluator.to_dict()) == (loaders, evaluators)


def test_rows_that_are_not_there_are_named():
    with pytest.raises(ValueError, match="no zero-shot set 'cifar'; there are aircraft, "):
        tasks(['cifar'], 'SETS')
    with pytest.raises(ValueError, match="row of 'dtd' in zero_shot_sets.py has no training split"):
        labelled_images('dtd', 'SETS', split='train')


def test_caltechs_split_is_what_its_counts_say():
    # 9,144 images in 102 classes, 30 of each for training (Fei-Fei et al. 2004).
    row = ZERO_SHOT_SETS['caltech101']
    assert (row.options['per_class'][0], row.num_samples) == (30, 9144 - 30 * row.num_classes)
    assert ZERO_SHOT_SETS['eurosat'].options['per_class'] == (1000, 1500)


@pytest.mark.parametrize('name', SETS)
def test_dataset_and_metric_name_the_same_classes(name, tmp_path):
    dataset, metric = config_of(name, tmp_path)
    assert dataset.classes == metric['classes']
    assert metric['metric'] in METRICS
    prompts = load_prompts(dataset.classes)
    assert len(prompts.classes) == dataset.num_classes
    assert load_prompts(metric.get('templates', dataset.classes)).templates


def test_difficult_objects_count_as_present(tmp_path):
    cfg, _ = config_of('voc2007', tmp_path)
    classes = load_prompts(cfg.classes).classes
    layouts.write(ZERO_SHOT_SETS['voc2007'], tmp_path, classes)
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


def test_folders_of_other_names_are_held_against_the_list(tmp_path):
    cfg = folder(tmp_path, names=())
    for label in range(3):
        layouts.save(tmp_path / f'set/{label}/0.png', label)
    wrong = {**cfg, 'folders': ['0', '1', '3']}
    with pytest.raises(
        ValueError, match=r"has the classes \['0', '1', '2'\], but the protocol of set \['0', '1', '3'\]"
    ):
        LabelledImages(**wrong)
    labels = [sample['label'] for sample in LabelledImages(**cfg, folders=['0', '1', '2'])]
    assert labels == [0, 1, 2]


def test_numbers_as_folders_must_be_padded(tmp_path):
    for index in range(12):
        layouts.save(tmp_path / f'set/{index}/0.png', 0)
        layouts.save(tmp_path / f'padded/{index:02d}/0.png', 0)
    cfg = {**folder(tmp_path, names=()), 'num_classes': 12, 'classes': [f'class {letter}' for letter in 'abcdefghijkl']}
    with pytest.raises(ValueError, match='its classes are numbers, sorted as text: 0, 1, 10, 11, ...; pad them'):
        LabelledImages(**cfg)
    cfg['source'] = dict(type='torchvision/ImageFolder', root=str(tmp_path / 'padded'))
    assert len(LabelledImages(**cfg)) == 12


def test_file_without_labels_is_named(tmp_path):
    cfg, _ = config_of('fer2013', tmp_path)
    (tmp_path / 'fer2013').mkdir()
    (tmp_path / 'fer2013/test.csv').write_text('pixels\n' + f'{" ".join(["0"] * 48 * 48)}\n')
    with pytest.raises(ValueError, match=r'fer2013 holds samples without labels\. Put fer2013\.csv or icml_face_data'):
        DATASETS.build(cfg)


def test_damaged_image_is_named(tmp_path):
    dataset = LabelledImages(**folder(tmp_path))
    (tmp_path / 'set/dog/1.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'set/3 of .*set cannot be evaluated: .*dog/1\.png'):
        dataset[3]


def test_empty_folder_is_a_missing_one(tmp_path):
    (tmp_path / 'set').mkdir()
    with pytest.raises(MissingImages, match=r'There is nothing in the folder .*set\. Ask for it\.'):
        LabelledImages(**folder(tmp_path, names=()))


def test_labels_of_pcam_need_no_image(tmp_path, monkeypatch):
    class File(dict):
        """What torchvision uses of h5py.File; the file is not there, so nothing but labels may be asked for."""

        def __init__(self, path):
            assert path.name.endswith('_y.h5')
            super().__init__(y=np.array([1, 0, 1]).reshape(3, 1, 1, 1))

        __enter__ = lambda self: self  # noqa: E731
        __exit__ = lambda *_: None  # noqa: E731

    monkeypatch.setitem(sys.modules, 'h5py', SimpleNamespace(File=File))
    cfg, _ = config_of('patch_camelyon', tmp_path)
    (tmp_path / 'pcam').mkdir()
    for kind in 'xy':
        (tmp_path / f'pcam/camelyonpatch_level_2_split_valid_{kind}.h5').touch()
    monkeypatch.setattr(torchvision.datasets.PCAM, '__len__', lambda _: 3)
    cfg.num_samples = 3
    assert DATASETS.build(cfg)._labels.tolist() == [1, 0, 1]


def test_missing_folder_says_how_to_get_it(tmp_path):
    cfg = folder(tmp_path)
    with pytest.raises(MissingImages, match=r'no folder .*nowhere nor shards .*\*\.tar\. Ask for it\.'):
        LabelledImages(**{**cfg, 'folder': str(tmp_path / 'nowhere'), 'shards': str(tmp_path / '*.tar')})
    assert issubclass(MissingImages, FileNotFoundError)


def test_damaged_copy_is_no_missing_one(tmp_path):
    (tmp_path / 'cifar-10-batches-py').mkdir()
    (tmp_path / 'cifar-10-batches-py/readme.html').touch()
    cfg = {**folder(tmp_path), 'source': dict(type='torchvision/CIFAR10', root=str(tmp_path), train=False)}
    with pytest.raises(ValueError, match='torchvision/CIFAR10 cannot read '):
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
    (tmp_path / 'pcam/camelyonpatch_level_2_split_valid_x.h5').touch()
    cfg, _ = config_of('patch_camelyon', tmp_path)
    with pytest.raises(ValueError, match='torchvision/PCAM cannot read .*pcam: h5py is not found'):
        DATASETS.build(cfg)
