"""Region and pointing accuracy against NumPy, and on annotations that can be known."""

import json

import numpy as np
import paths
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn
from torch.nn import functional as F

from mmmaskclip.config_check.check import check_config
from mmmaskclip.datasets.evaluation import CocoRegions, PanopticRegions
from mmmaskclip.datasets.evaluation.panoptic_regions import plain_name
from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.evaluation import RegionAccuracy
from mmmaskclip.evaluation.region_accuracy import coverage
from mmmaskclip.models.backbones.read_outs import READ_OUTS
from mmmaskclip.registry import MODELS

CLASSES = [f'class {index}' for index in range(7)]


class Tower(nn.Module):
    """Stands for an image tower without padding."""

    def unpadded_fraction(self, size):
        return 1.0, 1.0


class Given(nn.Module):
    """Gives the prompts, one per class, the rows of a given matrix; an image is its own patch embeddings."""

    tokenize = staticmethod(tokenize)

    def __init__(self, class_embeds):
        super().__init__()
        self.class_embeds = nn.Parameter(class_embeds)
        self.image_encoder = Tower()
        self.data_preprocessor = nn.Identity()

    def encode_text(self, tokens):
        return F.normalize(self.class_embeds, dim=-1)

    def encode_dense(self, images, read_out):
        return images


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    classes = F.normalize(torch.randn(7, 8, generator=generator), dim=-1)
    patches = F.normalize(torch.randn(3, 8, 2, 3, generator=generator), dim=1)
    random = np.random.default_rng(0)
    regions = [
        [dict(kind=kind, label=int(random.integers(7)), mask=random.random((8, 12)) < 0.3) for kind in kinds]
        for kinds in (['boxes', 'things'], ['things', 'things', 'boxes'], [])
    ]
    return classes, dict(image=patches, regions=regions, key=['a', 'b', 'c'])


def evaluate(metric, model, batch):
    metric.prepare(model)
    metric.process(batch, [])
    return metric.evaluate(len(batch['image']))


def test_equals_the_definition(case):
    classes, batch = case
    found = evaluate(RegionAccuracy(CLASSES, ['a {}']), Given(classes), batch)
    ranks, hits = {'boxes': [], 'things': []}, []
    for patches, regions in zip(batch['image'].numpy(), batch['regions'], strict=True):
        for region in regions:
            weights = region['mask'].reshape(2, 4, 3, 4).mean((1, 3))
            pooled = (patches * weights).sum((1, 2))
            scores = classes.numpy() @ (pooled / np.linalg.norm(pooled))
            ranks[region['kind']].append((scores > scores[region['label']]).sum())
        for label in {region['label'] for region in regions if region['kind'] == 'things'}:
            masks = [region['mask'] for region in regions if region['kind'] == 'things' and region['label'] == label]
            similarity = torch.from_numpy(np.einsum('dhw,d->hw', patches, classes[label].numpy()))
            pixels = F.interpolate(similarity[None, None], (8, 12), mode='bilinear')[0, 0].numpy()
            hits.append(np.any(masks, axis=0)[np.unravel_index(pixels.argmax(), pixels.shape)])
    assert found == pytest.approx(
        {
            'regions/pointing': 100 * np.mean(hits),
            **{f'regions/{kind}_top{k}': 100 * np.mean(np.array(r) < k) for kind, r in ranks.items() for k in (1, 5)},
        }
    )


def test_masks_of_classes_are_regions(case):
    classes, batch = case
    patches = classes[[0, 1, 2, 3, 4, 5]].T.reshape(8, 2, 3)
    mask = torch.arange(6).view(2, 3).repeat_interleave(4, 0).repeat_interleave(4, 1).to(torch.uint8)
    mask[3, 3] = 255  # not where the maximum is
    found = evaluate(RegionAccuracy(CLASSES, ['a {}']), Given(classes), dict(image=patches[None], mask=mask[None]))
    assert found == {'regions/pointing': 100, 'regions/masks_top1': 100, 'regions/masks_top5': 100}


def test_padding_belongs_to_no_region():
    mask = np.ones((6, 8), dtype=bool)  # patches of 4 pixels: two rows, of which the second is half
    np.testing.assert_allclose(coverage(mask, (2, 2), (6 / 8, 1.0)).numpy(), [[1, 1], [0.5, 0.5]])


def test_what_is_wrong_is_named(case):
    classes, batch = case
    metric = RegionAccuracy(CLASSES, ['a {}'])
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(batch, [])
    metric.dataset_meta = dict(classes=CLASSES[::-1])
    with pytest.raises(ValueError, match='give both the same names in the same order'):
        metric.prepare(Given(classes))
    metric.dataset_meta = None
    metric.prepare(Given(classes))
    with pytest.raises(ValueError, match='regions or a mask are needed for each image'):
        metric.process(dict(image=batch['image']), [])
    batch['regions'][0][0]['label'] = 7
    with pytest.raises(ValueError, match="sample 'a' has a region of the label 7, but there are 7 classes"):
        metric.process(batch, [])


@pytest.fixture
def coco(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)).save(tmp_path / 'a.png')
    content = dict(
        images=[dict(id=3, file_name='a.png', width=40, height=20)],
        categories=[dict(id=9, name='dog'), dict(id=2, name='cat')],
        annotations=[
            dict(image_id=3, category_id=9, bbox=[10, 5, 20, 10], segmentation=[[10, 5, 30, 5, 30, 15, 10, 15]]),
            dict(image_id=3, category_id=2, bbox=[0, 0, 0.2, 0.2]),
            dict(image_id=3, category_id=2, bbox=[0, 0, 40, 20], iscrowd=1),
        ],
    )
    (tmp_path / 'a.json').write_text(json.dumps(content))
    return tmp_path


def test_regions_of_coco(coco):
    data = CocoRegions(coco / 'a.json', coco, size=(32, 32), num_samples=1)
    assert data.metainfo == {'classes': ('cat', 'dog')}
    sample = data[0]
    assert (sample['image'].shape, sample['key']) == ((3, 32, 32), 'a.png')
    assert [(one['kind'], one['label'], int(one['mask'].sum())) for one in sample['regions']] == [
        ('boxes', 1, 200), ('things', 1, 200), ('boxes', 0, 1),
    ]  # fmt: skip
    assert sample['regions'][0]['mask'][5:15, 10:30].all()
    with pytest.raises(ValueError, match='lists 1 images, the protocol 5'):
        CocoRegions(coco / 'a.json', coco, num_samples=5)
    (coco / 'b.json').write_text('{}')
    with pytest.raises(ValueError, match=r'b\.json is no COCO json of instances'):
        CocoRegions(coco / 'b.json', coco)


def test_a_read_out_with_options_passes_the_config_check():
    cfg = Config.fromfile(paths.CONFIGS / 'region_accuracy/scenes.py')
    cfg.test_evaluator.regions.read_out = dict(name='naclip', std=3)
    cfg._cfg_dict['model'] = Config.fromfile(paths.CONFIGS / 'maskclip/vitxs16_scenes_v1.py').model
    check_config(cfg)


def test_the_config_of_every_read_out_names_them_all():
    cfg = Config.fromfile(paths.CONFIGS / 'region_accuracy/scenes_every_read_out.py')
    named = [metric.read_out for metric in cfg.test_evaluator.several if metric.type == 'RegionAccuracy']
    assert sorted(named) == sorted(READ_OUTS)


def test_coco_tiny(data_root, tiny_model_cfg, monkeypatch):
    if not (data_root / 'coco_tiny').is_dir():
        pytest.skip(f'no coco_tiny in {data_root}')
    monkeypatch.setenv('MMMASKCLIP_DATA', str(data_root))
    cfg = Config.fromfile(paths.CONFIGS / 'region_accuracy/coco_tiny.py')
    settings = {**cfg.test_dataloader.regions.dataset, 'size': (32, 32)}
    settings.pop('type')
    data = CocoRegions(**settings)
    model_cfg = tiny_model_cfg()
    del model_cfg['text_encoder']['vocab_size']
    model = MODELS.build(model_cfg).eval()
    metric = RegionAccuracy('coco80', ['a {}'], dict(name='naclip', std=2))
    metric.dataset_meta = data.metainfo
    metric.prepare(model)
    metric.process(collate_image_text([data[index] for index in range(3)]), [])
    found = metric.evaluate(3)
    assert set(found) == {
        f'regions/{name}' for name in ('pointing', 'boxes_top1', 'boxes_top5', 'things_top1', 'things_top5')
    }
    assert all(0 <= value <= 100 for value in found.values())


@pytest.fixture
def panoptic(tmp_path):
    """One image of 20 x 40: a dog on the left, brick wall on the right, a crowd below, and a pixel of nothing."""
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(tmp_path / 'a.jpg')
    ids = np.zeros((20, 40), np.int64)
    ids[:10, :20], ids[:10, 20:], ids[10:] = 7, 256 * 3 + 65536, 300
    ids[0, 0] = 0
    colours = np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=-1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / 'a.png')
    segments = [
        dict(id=7, category_id=18, bbox=[0, 0, 20, 10]),
        dict(id=256 * 3 + 65536, category_id=171, bbox=[20, 0, 20, 10], iscrowd=0),
        dict(id=300, category_id=18, bbox=[0, 10, 40, 10], iscrowd=1),
        dict(id=9, category_id=18, bbox=[0, 0, 1, 1]),
    ]
    content = dict(
        images=[dict(id=1, file_name='a.jpg', height=20, width=40)],
        categories=[dict(id=171, name='wall-brick', isthing=0), dict(id=18, name='dog', isthing=1)],
        annotations=[dict(image_id=1, file_name='a.png', segments_info=segments)],
    )
    (tmp_path / 'panoptic.json').write_text(json.dumps(content))
    return tmp_path, content


def test_segments_of_panoptic_masks(panoptic):
    folder, content = panoptic
    data = PanopticRegions(folder / 'panoptic.json', folder, folder, size=(32, 32), num_samples=1)
    assert data.metainfo['classes'] == ('dog', 'brick wall')
    sample = data[0]
    assert sample['image'].shape == (3, 32, 32)
    found = {(region['kind'], region['label']): region['mask'] for region in sample['regions']}
    assert found.keys() == {('boxes', 0), ('things', 0), ('stuff', 1)}
    assert [mask.sum() for mask in found.values()] == [200, 199, 200]
    assert found['stuff', 1][:10, 20:].all()
    content['annotations'][0]['segments_info'][0]['category_id'] = 5
    (folder / 'other.json').write_text(json.dumps(content))
    with pytest.raises(ValueError, match='a.png has a segment of the category 5, which is not listed'):
        PanopticRegions(folder / 'other.json', folder, folder)[0]
    with pytest.raises(ValueError, match='lists 1 images, the protocol 5000'):
        PanopticRegions(folder / 'panoptic.json', folder, folder, num_samples=5000)
    (folder / 'bad.json').write_text(json.dumps(dict(images=[])))
    with pytest.raises(ValueError, match='is no json of panoptic segments'):
        PanopticRegions(folder / 'bad.json', folder, folder)
    (folder / 'a.png').unlink()
    with pytest.raises(ValueError, match=r'a\.jpg cannot be evaluated'):
        data[0]


def test_names_of_stuff_become_plain_words():
    names = ['floor-other-merged', 'window-blind', 'door-stuff', 'water-other', 'playingfield', 'building, edifice']
    assert [plain_name(name) for name in names] == [
        'floor',
        'blind window',
        'door',
        'water',
        'playing field',
        'building',
    ]


def test_classes_of_the_data_set_are_taken(case):
    classes, batch = case
    metric = RegionAccuracy(templates=['a {}'])
    with pytest.raises(ValueError, match='does not name its classes'):
        metric.prepare(Given(classes))
    metric.dataset_meta = dict(classes=CLASSES)
    assert evaluate(metric, Given(classes), batch) == evaluate(RegionAccuracy(CLASSES, ['a {}']), Given(classes), batch)
    with pytest.raises(ValueError, match='templates are missing'):
        RegionAccuracy()
