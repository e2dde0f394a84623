"""Every config of configs/zero_shot_seg reads a tiny copy of its data set's layout and gives mmseg's numbers."""

from pathlib import Path

import numpy as np
import paths
import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)
from mmseg.utils import get_predefined_templates
from PIL import Image

from mmmaskclip.datasets.evaluation.segmentation_sets import COCOObjectDataset
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import DATASETS

CONFIGS = paths.CONFIGS / 'zero_shot_seg'
# Folder of the images, folder of the masks, the endings, and the file that lists the split; the number of classes; and
# the mask values of the first and last class, and of what is ignored.
ADE = (
    ('ade/ADEChallengeData2016/images/validation', 'ade/ADEChallengeData2016/annotations/validation', '.jpg', '.png'),
    None,
    150,
    (1, 150, 0),
)
STUFF = (('coco_stuff164k/images/val2017', 'coco_stuff164k/annotations/val2017', '.jpg', '_labelTrainIds.png'),
         None, 171, (0, 170, 255))  # fmt: skip
CONTEXT = (
    'VOCdevkit/VOC2010/JPEGImages', 'VOCdevkit/VOC2010/SegmentationClassContext', '.jpg', '.png',
)  # fmt: skip
CONTEXT_SPLIT = 'VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt'
VOC = ('VOCdevkit/VOC2012/JPEGImages', 'VOCdevkit/VOC2012/SegmentationClass', '.jpg', '.png')
VOC_SPLIT = 'VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt'
OBJECT = ('coco_stuff164k/images/val2017', 'coco_stuff164k/annotations/val2017', '.jpg', '_instanceTrainIds.png')
CITYSCAPES = (
    'cityscapes/leftImg8bit/val/ulm', 'cityscapes/gtFine/val/ulm', '_leftImg8bit.png', '_gtFine_labelTrainIds.png',
)  # fmt: skip
SETS = {
    'ade20k': ADE,
    'coco_stuff171': STUFF,
    'context59': (CONTEXT, CONTEXT_SPLIT, 59, (1, 59, 0)),
    'context60': (CONTEXT, CONTEXT_SPLIT, 60, (0, 59, 255)),
    'voc20': (VOC, VOC_SPLIT, 20, (1, 20, 0)),
    'voc21': (VOC, VOC_SPLIT, 21, (0, 20, 255)),
    'coco_object81': (OBJECT, None, 81, (0, 80, 255)),
    'cityscapes19': (CITYSCAPES, None, 19, (0, 18, 255)),
    'camvid': (('camvid/images/test', 'camvid/masks/test', '.jpg', '.png'), None, 11, (0, 10, 11)),
}
LAYOUTS = {path.stem: SETS[path.stem.rpartition('_')[0]] for path in CONFIGS.glob('*.py')}
# These protocols have no background.
LAYOUTS['coco_object81_maskclip'] = LAYOUTS['coco_object81_dinotxt'] = (OBJECT, None, 80, (1, 80, 0))


def write_layout(root, layout):
    """Two images; the masks hold the first class, the last one and what is ignored, a third of the pixels each."""
    (images, masks, image_ending, mask_ending), split, _, values = layout
    for folder in (images, masks):
        Path(root, folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ('a', 'b'):
        pixels = random.integers(256, size=(24, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path(root, images, name + image_ending))
        mask = np.repeat(np.array(values, np.uint8), 8)[:, None].repeat(30, 1)
        Image.fromarray(mask).save(Path(root, masks, name + mask_ending))
    if split:
        Path(root, split).parent.mkdir(parents=True)
        Path(root, split).write_text('a\nb\n')


def read_config(name, work_dir, tiny_model_cfg):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    cfg._cfg_dict['model'] = tiny_model_cfg()
    # The prompts are CLIP's tokens; and one template in place of 85.
    del cfg.model.text_encoder['vocab_size']
    cfg.test_cfg.segmentor.templates = ['{}']
    cfg.test_dataloader.segmentation.num_workers = 0
    cfg.launcher, cfg.work_dir, cfg.visualizer = 'none', str(work_dir), None
    return cfg


@pytest.fixture
def in_data_folder(tmp_path, monkeypatch):
    """The folder that the configs' ``data`` and $MMMASKCLIP_DATA are."""
    register_all_modules()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('MMMASKCLIP_DATA', 'data')
    return tmp_path / 'data'


def test_every_protocol_has_its_sets():
    protocols = {}
    for name in LAYOUTS:
        protocols.setdefault(name.rpartition('_')[2], set()).add(name.rpartition('_')[0])
    sets = SETS.keys() - {'camvid'}
    # Without background: MaskCLIP's and dino.txt's.
    without = sets - {'voc21', 'context60'}
    assert protocols == dict(sclip=sets, tcl=sets, tips=sets, dinotxt=without, maskclip=without | {'camvid'})


@pytest.mark.parametrize('name', LAYOUTS)
def test_layout_is_read_and_evaluated(name, in_data_folder, tmp_path, tiny_model_cfg):
    layout = LAYOUTS[name]
    write_layout(in_data_folder, layout)
    cfg = read_config(name, tmp_path / 'work', tiny_model_cfg)
    if 'num_images' in cfg.test_cfg:
        cfg.test_cfg.num_images = 2
    segmentor = cfg.test_cfg.segmentor
    # Windows of the tiny model's own size, and images of which each needs two of them.
    segmentor.test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    cfg.test_dataloader.segmentation.dataset.pipeline[1].scale = (2048, 32)
    runner = Runner.from_cfg(cfg)
    metrics = runner.test()

    assert metrics.keys() == {'segmentation/aAcc', 'segmentation/mIoU', 'segmentation/mAcc'}
    dataset = runner.test_dataloader.loaders['segmentation'].dataset
    assert len(dataset) == 2
    assert len(dataset.metainfo['classes']) == layout[2]
    mask = dataset[0]['data_samples'].gt_sem_seg.data[0]
    ignored = cfg.test_evaluator.segmentation.get('ignore_index', 255)
    assert mask[:, 0].tolist() == [0] * 8 + [layout[2] - 1] * 8 + [ignored] * 8
    segmentor = runner.test_loop.segmentor
    threshold = (segmentor.get('queries') or {}).get('threshold', segmentor.get('background_threshold'))
    expected = 0.1 if name.endswith('sclip') else 0.5
    assert threshold == (expected if dataset.metainfo['classes'][0] == 'background' else None)


def test_missing_folder_and_wrong_split_are_named(in_data_folder, tmp_path, tiny_model_cfg):
    cfg = read_config('ade20k_tcl', tmp_path / 'work', tiny_model_cfg)
    with pytest.raises(FileNotFoundError, match=r"There is no data set in 'data/ade/ADEChallengeData2016'.*evaluation"):
        Runner.from_cfg(cfg).test()
    write_layout(in_data_folder, ADE)
    with pytest.raises(ValueError, match=r"'segmentation' has 2 images, but must have 2000: check"):
        Runner.from_cfg(cfg).test()


@pytest.mark.parametrize('name', ['context59_maskclip', 'context59_tcl', 'context60_tcl'])
def test_both_numbers_of_contexts_images_are_allowed(name, in_data_folder, tmp_path, tiny_model_cfg):
    write_layout(in_data_folder, LAYOUTS[name])
    cfg = read_config(name, tmp_path / 'work', tiny_model_cfg)
    assert tuple(cfg.test_cfg.num_images) == (5104, 5105)
    with pytest.raises(ValueError, match='has 2 images, but must have 5104 or 5105: check'):
        Runner.from_cfg(cfg).test_loop  # noqa: B018 - built by being asked for
    cfg.test_cfg.num_images = (2, 3)
    assert Runner.from_cfg(cfg).test_loop.segmentor


def test_class_list_of_the_wrong_length_is_refused(in_data_folder, tmp_path, tiny_model_cfg):
    write_layout(in_data_folder, LAYOUTS['voc21_tcl'])
    cfg = read_config('voc21_tcl', tmp_path / 'work', tiny_model_cfg)
    cfg.test_cfg.update(num_images=2)
    cfg.test_cfg.segmentor.classes = 'context59'
    with pytest.raises(ValueError, match=r'are 60 \(the background included\).*has 21: background, aeroplane'):
        Runner.from_cfg(cfg).test()


def test_protocols_are_the_papers():
    sizes = {
        name: (
            cfg.test_dataloader.segmentation.dataset.pipeline[1].scale,
            cfg.test_cfg.segmentor.test_cfg.crop_size,
            cfg.test_cfg.segmentor.test_cfg.stride,
            cfg.test_cfg.segmentor.templates,
        )
        for name, cfg in ((name, Config.fromfile(CONFIGS / f'{name}.py')) for name in LAYOUTS)
    }
    maskclip = ((224, 224), (112, 112), 'scenes_85')
    tcl = ((2048, 448), (448, 448), (224, 224), 'tcl')
    sclip = ((224, 224), (112, 112), 'imagenet_80')
    usual = dict(
        maskclip=((2048, 512), *maskclip),
        tcl=tcl,
        sclip=((2048, 336), *sclip),
        tips=((2048, 448), (448, 448), (336, 336), 'tcl'),
        dinotxt=((2048, 512), (384, 384), (192, 192), 'imagenet_80'),
    )
    assert sizes == {
        **{name: usual[name.rpartition('_')[2]] for name in LAYOUTS},
        'coco_stuff171_sclip': ((2048, 448), *sclip),
        'cityscapes19_sclip': ((2048, 560), *sclip),
        'context59_maskclip': ((2048, 480), *maskclip),
        'camvid_maskclip': ((2048, 256), (112, 112), (56, 56), 'scenes_85'),
    }


# TCL takes the names of mmseg's data sets (segmentation/evaluation/builder.py); here some of those that Zhou et al.,
# whose evaluation MaskCLIP's paper follows, say in another way.
TCLS = {
    'voc20_tcl': ('aeroplane', 'diningtable', 'pottedplant', 'tvmonitor'),
    'voc21_tcl': ('background', 'aeroplane', 'diningtable', 'pottedplant', 'tvmonitor'),
    'context59_tcl': ('aeroplane', 'pottedplant', 'tvmonitor'),
    'context60_tcl': ('background', 'aeroplane', 'pottedplant', 'tvmonitor'),
    'coco_stuff171_tcl': ('ceiling-tile', 'water-other', 'window-blind', 'grass'),
}
ZHOUS = {'voc20_maskclip': 'tv monitor', 'context59_maskclip': 'airplane', 'coco_stuff171_maskclip': 'tile ceiling'}


def test_class_names_are_the_protocols(tmp_path):
    given = {name: Config.fromfile(CONFIGS / f'{name}.py') for name in LAYOUTS}
    names = {name: cfg.test_cfg.segmentor.get('classes') for name, cfg in given.items()}
    chosen = {name for name, classes in names.items() if classes}
    assert {name for name in chosen if name.endswith(('tcl', 'maskclip'))} == ZHOUS.keys()
    for name, one in ZHOUS.items():
        assert (one,) in load_prompts(names[name]).classes
    register_all_modules()
    for name, some in TCLS.items():
        dataset = given[name].test_dataloader.segmentation.dataset
        dataset.update(lazy_init=True, data_root=str(tmp_path), _scope_='mmmaskclip')
        if 'ann_file' in dataset:
            (tmp_path / dataset.ann_file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / dataset.ann_file).touch()
        (tmp_path / dataset.data_prefix.img_path).mkdir(parents=True, exist_ok=True)
        assert set(some) <= set(DATASETS.build(dataset).metainfo['classes'])


def test_docs_say_of_every_config_what_it_reads():
    lines = (paths.ROOT / 'docs/evaluation.md').read_text(encoding='utf-8').splitlines()
    for name in LAYOUTS:
        cfg = Config.fromfile(CONFIGS / f'{name}.py')
        numbers = cfg.test_cfg.num_images
        numbers = ' or '.join(map(str, numbers)) if isinstance(numbers, (list, tuple)) else str(numbers)
        of_set = f'`{name.rpartition("_")[0]}_*`'
        (row,) = (line for line in lines if of_set in line and f' | {numbers} | ' in line)
        assert str(LAYOUTS[name][2]) in row.split(' | ')[1].split(', ')
        assert name.startswith(('camvid', 'coco_object81')) or cfg.test_dataloader.segmentation.dataset.data_root in row


def test_templates():
    scenes = load_prompts('scenes_85').templates
    assert len(set(scenes)) == 85
    assert list(scenes[:80]) == list(get_predefined_templates('imagenet'))
    assert all('in the scene' in template for template in scenes[80:])
    tcl = load_prompts('tcl').templates
    assert len(set(tcl)) == 9
    assert tcl[7:] == ('a photo of many {}.', 'a photo of {}s.')


RENAMED = {
    'aeroplane': 'airplane', 'diningtable': 'dining table', 'pottedplant': 'potted plant', 'tvmonitor': 'tv monitor',
    'ceiling-tile': 'tile ceiling', 'window-blind': 'blind window',
}  # fmt: skip


def plain(name):
    """mmseg's name as one says it."""
    first, _, second = name.partition('-')
    said = f'{second} {first}' if second and first in ('floor', 'wall') else first
    return RENAMED.get(name, first if second in ('other', 'stuff') else said)


@pytest.mark.parametrize(
    ('name', 'dataset'),
    [('voc20', PascalVOCDataset), ('context59', PascalContextDataset59), ('context59', PascalContextDataset),
     ('coco_stuff171', COCOStuffDataset)],
)  # fmt: skip
def test_class_names_stand_in_the_order_of_the_masks(name, dataset):
    classes = [entry for entry in dataset.METAINFO['classes'] if entry != 'background']
    assert load_prompts(name).classes == tuple((plain(entry),) for entry in classes)


def test_class_counts():
    assert [len(dataset.METAINFO['classes']) for dataset in (ADE20KDataset, CityscapesDataset)] == [150, 19]
    classes = COCOObjectDataset.METAINFO['classes']
    assert (len(classes), classes[:2], classes[-1]) == (81, ('background', 'person'), 'toothbrush')
    assert len(COCOObjectDataset.METAINFO['palette']) == 81


@pytest.mark.parametrize('read_out', ['patch', 'value'])
def test_camvid(data_root, read_out, tmp_path, monkeypatch, tiny_model_cfg):
    if not (data_root / 'camvid').is_dir():
        pytest.skip(f'no CamVid in {data_root}')
    register_all_modules()
    monkeypatch.setenv('MMMASKCLIP_DATA', str(data_root))
    cfg = read_config('camvid_maskclip', tmp_path, tiny_model_cfg)
    cfg.test_cfg.segmentor.update(read_out=read_out, test_cfg=dict(mode='whole'))
    dataset = DATASETS.build(cfg.test_dataloader.segmentation.dataset)
    assert len(dataset) == cfg.test_cfg.num_images == 233
    assert dataset[7]['inputs'].shape == (3, 256, 341)
    assert dataset[7]['data_samples'].gt_sem_seg.data.shape == (1, 360, 480)
    cfg.test_dataloader.segmentation.dataset.indices, cfg.test_cfg.num_images = 3, 3
    metrics = Runner.from_cfg(cfg).test()
    assert 0 < metrics['segmentation/mIoU'] < 40
