"""Open-vocabulary detection: the classifier, the data set, the metric, and their configs on real images."""

import json
from types import SimpleNamespace

import numpy as np
import paths
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from pycocotools import mask as mask_api
from torch.nn import functional as F

import mmmaskclip  # noqa: F401  (provides mmdet's operators)
from mmmaskclip.cli.test import main as evaluate
from mmmaskclip.cli.train import main as train
from mmmaskclip.datasets.evaluation.open_vocabulary_coco import OpenVocabularyCocoDataset
from mmmaskclip.engine import ReliableRunner
from mmmaskclip.evaluation.open_vocabulary_coco_metric import OpenVocabularyCocoMetric
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes
from mmmaskclip.models.open_vocabulary.text_classifier import TextClassifier
from mmmaskclip.registry import MODELS

CONFIGS = paths.CONFIGS / 'ov_mask_rcnn'
CLASSES = ('cat', 'dog', 'bird')
TEMPLATES = ['a {}.', 'one {}']


def text_config(checkpoint=None, width=16):
    return dict(
        encoder=dict(type='mmmaskclip.CLIPTextTransformer', width=width, num_layers=1, num_heads=2),
        projection=dict(type='mmmaskclip.TextProjectionHead', in_channels=width, embed_dims=8),
        checkpoint=str(checkpoint),
        templates=TEMPLATES,
    )


@pytest.fixture
def pretrainer(tiny_model_cfg):
    cfg = tiny_model_cfg()
    cfg['text_encoder'].update(num_layers=1, vocab_size=49408)
    cfg['text_projection'].update(embed_dims=8)
    cfg['image_projection'].update(embed_dims=8)
    model = MODELS.build(cfg)
    model.init_weights()
    return model.eval()


@pytest.fixture
def checkpoint(pretrainer, tmp_path):
    path = tmp_path / 'pretrained.pth'
    torch.save(dict(state_dict=pretrainer.state_dict()), path)
    return path


def classifier(checkpoint=None, **options):
    return TextClassifier(in_features=6, out_features=4, classes=CLASSES, text=text_config(checkpoint), **options)


def test_scores_are_cosines_over_the_temperature():
    model = classifier(temperature=0.05).eval()
    model.class_embeds.copy_(F.normalize(torch.randn(3, 8), dim=-1))
    features = torch.randn(5, 6)
    weight, bias = (tensor.detach().numpy() for tensor in (model.projection.weight, model.projection.bias))
    embeds = features.numpy() @ weight.T + bias
    classes = np.concatenate([model.class_embeds.numpy(), model.background.detach().numpy()])
    cosines = np.einsum('nd,kd->nk', embeds, classes)
    cosines /= np.linalg.norm(embeds, axis=1)[:, None] * np.linalg.norm(classes, axis=1)
    np.testing.assert_allclose(model(features).detach().numpy(), cosines / 0.05, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('hook', ['before_train', 'before_val', 'before_test'])
def test_a_classifier_whose_names_stand_in_another_order_than_the_datas_is_refused(hook, monkeypatch):
    data = torch.utils.data.TensorDataset(torch.zeros(1))
    data.metainfo = {'classes': ['bird', 'cat', 'dog']}
    loader = torch.utils.data.DataLoader(data)
    runner = ReliableRunner.__new__(ReliableRunner)
    monkeypatch.setattr(ReliableRunner, 'val_dataloader', loader)
    monkeypatch.setattr(ReliableRunner, 'test_dataloader', loader)
    runner._train_loop, runner.model, runner._hooks = (
        SimpleNamespace(dataloader=loader),
        torch.nn.Sequential(classifier()),
        [],
    )
    monkeypatch.setattr(ReliableRunner, 'train_dataloader', loader)
    with pytest.raises(ValueError, match="class 0 is 'bird' in the data set and 'cat' in TextClassifier"):
        runner.call_hook(hook)
    data.metainfo['classes'] = ['cat', 'dog']
    with pytest.raises(
        ValueError, match=r'the data set has 2 classes \(cat, dog, .*TextClassifier has 3 \(cat, dog, bird'
    ):
        runner.call_hook(hook)


def test_novel_classes_are_not_in_the_softmax_of_the_training():
    model = classifier(novel=['dog'])
    model.class_embeds.copy_(F.normalize(torch.randn(3, 8), dim=-1))
    features = torch.randn(5, 6)
    base = model.eval()(features)[:, [0, 2, 3]]
    scores = model.train()(features)
    assert torch.equal(scores.softmax(1)[:, [0, 2, 3]], base.softmax(1))
    F.cross_entropy(scores, torch.tensor([0, 2, 3, 3, 0])).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert len(gradients) == 3
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_half_precision_does_not_reach_the_scores():
    model = classifier().eval()
    model.class_embeds.copy_(F.normalize(torch.randn(3, 8), dim=-1))
    features = torch.randn(5, 6).bfloat16()
    with torch.autocast('cpu', torch.bfloat16):
        scores = model(features)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, model(features.float()))


def test_the_classes_are_embedded_by_the_pretrainings_text_tower(pretrainer, checkpoint):
    model = classifier(checkpoint)
    model.init_weights()
    torch.testing.assert_close(model.class_embeds, encode_classes(pretrainer, CLASSES, TEMPLATES))
    # Another one loads them from the detector's checkpoint, without the text tower.
    other = classifier('nowhere.pth')
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.class_embeds, model.class_embeds)


def test_other_names_than_the_checkpoints_are_embedded_anew(pretrainer, checkpoint):
    trained = classifier(checkpoint)
    trained.init_weights()
    names = ('dog', 'cat', 'horse')
    other = TextClassifier(6, 4, names, text_config(checkpoint))
    other.load_state_dict(trained.state_dict())
    torch.testing.assert_close(other.class_embeds, encode_classes(pretrainer, names, TEMPLATES))
    assert torch.equal(other.projection.weight, trained.projection.weight)
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        TextClassifier(6, 4, names, text_config('nowhere.pth')).load_state_dict(trained.state_dict())


def test_wrong_checkpoints_and_names_are_errors(checkpoint, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere.pth'):
        classifier('nowhere.pth').init_weights()
    torch.save(dict(state_dict={'image_encoder.cls_token': torch.zeros(1)}), tmp_path / 'image.pth')
    with pytest.raises(ValueError, match='has nothing under text_encoder'):
        classifier(tmp_path / 'image.pth').init_weights()
    with pytest.raises(ValueError, match='does not fit TextTower.*size mismatch'):
        TextClassifier(6, 4, CLASSES, text_config(checkpoint, width=32)).init_weights()
    with pytest.raises(ValueError, match='num_classes=4, but classes names 3'):
        TextClassifier(6, 5, CLASSES, text_config())
    with pytest.raises(ValueError, match=r"novel names \['cow'\]"):
        classifier(novel=['cow'])


# Image 1: a cat and a dog; 2: a dog; 3: a bird; 4: nothing.
BOXES = {1: [('cat', [10, 10, 40, 40]), ('dog', [60, 10, 30, 50])], 2: [('dog', [20, 20, 50, 50])]}
BOXES[3], BOXES[4] = [('bird', [5, 50, 60, 40])], []


@pytest.fixture
def ann_file(tmp_path):
    annotations = []
    for image, boxes in BOXES.items():
        for name, (x, y, width, height) in boxes:
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                dict(id=len(annotations) + 1, image_id=image, category_id=10 * CLASSES.index(name) + 10, iscrowd=0)
                | dict(bbox=[x, y, width, height], area=width * height, segmentation=[polygon])
            )
    content = dict(
        images=[dict(id=image, file_name=f'{image}.jpg', width=100, height=100) for image in BOXES],
        categories=[dict(id=10 * index + 10, name=name) for index, name in enumerate(CLASSES)],
        annotations=annotations,
    )
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(content))
    return path


def dataset(ann_file, novel=('dog',), **options):
    init_default_scope('mmdet')
    return OpenVocabularyCocoDataset(
        novel, ann_file=str(ann_file), metainfo=dict(classes=CLASSES), data_prefix=dict(img=''), pipeline=[], **options
    )


def labels(data):
    infos = (data.get_data_info(index) for index in range(len(data)))
    return {info['img_id']: [one['bbox_label'] for one in info['instances']] for info in infos}


def test_objects_of_novel_classes_are_dropped_and_labels_kept(ann_file):
    assert labels(dataset(ann_file, filter_cfg=dict(filter_empty_gt=True))) == {1: [0], 3: [2]}
    assert labels(dataset(ann_file)) == {1: [0], 2: [], 3: [2], 4: []}
    with pytest.raises(ValueError, match=r"novel names \['cow'\]"):
        dataset(ann_file, novel=['cow'])


def detections(found):
    """Results of a detector: by image, names, boxes (x, y, width, height) and scores."""
    samples = []
    for image in BOXES:
        boxes = np.array([box for _, box, _ in found.get(image, [])], dtype=np.float32).reshape(-1, 4)
        masks = np.zeros((len(boxes), 100, 100), dtype=np.uint8)
        for mask, (x, y, width, height) in zip(masks, boxes.astype(int), strict=True):
            mask[y : y + height, x : x + width] = 1
        boxes[:, 2:] += boxes[:, :2]
        prediction = dict(
            bboxes=torch.from_numpy(boxes),
            scores=torch.tensor([score for _, _, score in found.get(image, [])]),
            labels=torch.tensor([CLASSES.index(name) for name, _, _ in found.get(image, [])], dtype=torch.int64),
            masks=[mask_api.encode(np.asfortranarray(mask)) for mask in masks],
        )
        samples.append(dict(img_id=image, ori_shape=(100, 100), pred_instances=prediction))
    return samples


def score(ann_file, found, novel=('dog',), **options):
    metric = OpenVocabularyCocoMetric(novel, ann_file=str(ann_file), **options)
    metric.dataset_meta = dict(classes=CLASSES)
    for sample in detections(found):
        metric.process({}, [sample])
    return metric.evaluate(len(BOXES))


def test_base_and_novel_classes_are_told_apart(ann_file):
    found = {image: [(name, box, 0.9) for name, box in boxes] for image, boxes in BOXES.items()}
    # One of two dogs is taken for a cat, with less certainty than the cat.
    found[2] = [('cat', BOXES[2][0][1], 0.5)]
    metrics = score(ann_file, found)
    for kind in ('bbox', 'segm'):
        assert metrics[f'coco/base_{kind}_mAP'] == metrics[f'coco/base_{kind}_mAP_50'] == 1
        # Recall stops at a half: 51 of 101 points of the curve.
        assert metrics[f'coco/novel_{kind}_mAP_50'] == pytest.approx(51 / 101, abs=1e-3)
        assert metrics[f'coco/{kind}_mAP'] == pytest.approx((1 + 1 + 51 / 101) / 3, abs=1e-3)
    assert score(ann_file, found, metric='bbox').keys() == {name for name in metrics if 'segm' not in name}


@pytest.mark.parametrize('order', [(2, 0, 1), (1, 2, 0)])
def test_labels_are_found_by_name_whatever_the_files_order(ann_file, order):
    content = json.loads(ann_file.read_text())
    found = {image: [(name, box, 0.9) for name, box in boxes] for image, boxes in BOXES.items()}
    expected, before = score(ann_file, found), labels(dataset(ann_file, ()))
    content['categories'] = [content['categories'][index] for index in order]
    ann_file.write_text(json.dumps(content))
    assert labels(dataset(ann_file, ())) == before
    assert score(ann_file, found) == expected
    assert expected['coco/bbox_mAP'] == 1


def test_names_that_the_file_lacks_are_named_with_both_lists(ann_file):
    content = json.loads(ann_file.read_text())
    content['categories'][0]['name'] = 'Cat'
    ann_file.write_text(json.dumps(content))
    message = 'does not have the classes cat exactly once. It has Cat, dog, bird; the config has cat, dog, bird'
    with pytest.raises(ValueError, match=message):
        dataset(ann_file, ())
    with pytest.raises(ValueError, match=message):  # when the loop is built, not after the evaluation
        OpenVocabularyCocoMetric((), ann_file=str(ann_file)).dataset_meta = dict(classes=CLASSES)


@pytest.mark.parametrize('make', [OpenVocabularyCocoMetric, OpenVocabularyCocoDataset, None], ids=str)
def test_one_string_is_no_list_of_novel_classes(make):
    with pytest.raises(TypeError, match=r"novel is the string 'dog': give a list, \['dog'\]"):
        classifier(novel='dog') if make is None else make('dog')


def test_groups_without_detections_or_objects_have_a_score(ann_file):
    cats = {1: [('cat', BOXES[1][0][1], 0.9)]}
    assert score(ann_file, cats)['coco/novel_bbox_mAP'] == 0
    assert score(ann_file, cats, novel=())['coco/novel_bbox_mAP'] == 0
    with pytest.raises(ValueError, match=r"metric=\['proposal'\]"):
        OpenVocabularyCocoMetric((), metric='proposal')
    with pytest.raises(ValueError, match=r"novel names \['cow'\]"):
        OpenVocabularyCocoMetric(['cow'], ann_file=str(ann_file)).dataset_meta = dict(classes=CLASSES)


@pytest.mark.parametrize('config', ['vitb16_coco_48_17', 'vitt16_coco_tiny'])
def test_the_split_is_the_papers_in_cocos_order(config):
    from mmdet.datasets import CocoDataset

    cfg = Config.fromfile(CONFIGS / f'{config}.py')
    assert [len(cfg.classes), len(cfg.novel), len(set(cfg.novel) & set(cfg.classes))] == [65, 17, 17]
    assert cfg.classes == [name for name in CocoDataset.METAINFO['classes'] if name in cfg.classes]
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.metainfo.classes == cfg.classes
    assert cfg.train_dataloader.dataset.novel == cfg.test_evaluator.novel == cfg.novel
    assert cfg.test_dataloader.dataset.type == 'mmmaskclip.OpenVocabularyCocoDataset'
    assert cfg.test_dataloader.dataset.novel == []


def test_the_full_size_detector_builds():
    cfg = Config.fromfile(CONFIGS / 'vitb16_coco_48_17.py')
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model)
    head = model.roi_head.bbox_head
    assert head.fc_cls.projection.weight.shape == (512, 1024)
    assert head.fc_cls.class_embeds.shape == (65, 512)
    assert head.fc_cls.is_novel.sum() == 17
    # What is not of a class is the same for all: a novel one has no box to learn it from.
    assert head.fc_reg.out_features == 4
    assert model.roi_head.mask_head.conv_logits.out_channels == 1


def test_two_steps_and_an_evaluation_on_real_images(data_root, tmp_path, monkeypatch):
    if not (data_root / 'coco_tiny').is_dir():
        pytest.skip(f'no coco_tiny in {data_root}')
    monkeypatch.setenv('MMMASKCLIP_DATA', str(data_root))
    text = text_config()
    towers = dict(
        image_encoder=CLIPVisionTransformer(arch='ViT-Ti/16', img_size=112),
        text_encoder=MODELS.build(text['encoder']),
        text_projection=MODELS.build(text['projection']),
    )
    weights = {f'{part}.{name}': value for part, tower in towers.items() for name, value in tower.state_dict().items()}
    pretrained = tmp_path / 'pretrained.pth'
    torch.save(dict(state_dict=weights), pretrained)
    classifier = 'model.roi_head.bbox_head.cls_predictor_cfg.text'
    loaders = [f'{name}_dataloader' for name in ('train', 'val', 'test')]
    options = [
        f'model.backbone.init_cfg.checkpoint={pretrained}',
        f'{classifier}.checkpoint={pretrained}',
        *(f'{classifier}.encoder.{option}' for option in ('width=16', 'num_layers=1', 'num_heads=2')),
        *(f'{classifier}.projection.{option}' for option in ('in_channels=16', 'embed_dims=8')),
        *(f'{loader}.{option}' for loader in loaders for option in ('num_workers=0', 'persistent_workers=False')),
        *(f'{loader}.dataset.indices={number}' for loader, number in zip(loaders, (4, 2, 2), strict=True)),
        'train_dataloader.dataset.pipeline.2.scale=(96,96)',
        *(f'{loader}.dataset.pipeline.1.scale=(96,96)' for loader in loaders[1:]),
        *('train_dataloader.batch_size=2', 'train_cfg.max_epochs=1', 'train_cfg.val_interval=1'),
        *('model.test_cfg.rcnn.score_thr=0.001', 'model.test_cfg.rcnn.max_per_img=5'),
        *('model.train_cfg.rpn_proposal.max_per_img=30', 'model.test_cfg.rpn.max_per_img=30'),
        *('model.train_cfg.rcnn.sampler.num=16', 'test_evaluator.metric=bbox'),
        'default_hooks.logger.interval=1',
    ]
    config, work_dir = str(CONFIGS / 'vitt16_coco_tiny.py'), tmp_path / 'run'
    train([config, '--work-dir', str(work_dir), '--cfg-options', *options])
    log = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    losses = [line['loss'] for line in log if 'loss' in line]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    assert {f'coco/{group}_{kind}_mAP_50' for group in ('base', 'novel') for kind in ('bbox', 'segm')} <= log[-1].keys()
    # A test needs the detector's checkpoint alone.
    pretrained.unlink()
    evaluate([config, str(work_dir / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'test'), '--cfg-options', *options])
