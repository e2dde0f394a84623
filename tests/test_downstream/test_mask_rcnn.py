"""Mask R-CNN: the configs hold the supplement's recipe, and train and test on real images by the command line."""

import json

import paths
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from ranks import run_ranks
from spoiled import skipped, spoil

from mmmaskclip.cli.test import main as evaluate
from mmmaskclip.cli.train import main as train
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.registry import DATASETS, MODELS

CONFIGS = paths.CONFIGS / 'mask_rcnn'
COCO = CONFIGS / 'vitb16_coco_1x.py'
TINY = CONFIGS / 'vitt16_coco_tiny.py'
ANNOTATIONS = 'annotations/instances_train2017.json'
NO_WORKERS = [
    f'{loader}_dataloader.{option}'
    for loader in ('train', 'val', 'test')
    for option in ('num_workers=0', 'persistent_workers=False')
]
# Two steps with two images each, then one evaluation; scores of an untrained model are low.
SHORT = [
    *NO_WORKERS,
    'train_cfg.max_epochs=1',
    'train_cfg.val_interval=1',
    'train_dataloader.batch_size=2',
    'train_dataloader.dataset.indices=4',
    'val_dataloader.dataset.indices=3',
    'test_dataloader.dataset.indices=3',
    'model.test_cfg.rcnn.score_thr=0.001',
    'model.test_cfg.rcnn.max_per_img=10',
]
# The full recipe on images that a test has the time for.
SMALL = [
    'model.backbone.arch=ViT-Ti/16',
    'model.neck.0.embed_dim=192',
    'model.neck.1.in_channels=[192,192,192,192]',
    'train_dataloader.dataset.pipeline.2.scale=(133,80)',
    'val_dataloader.dataset.pipeline.1.scale=(133,80)',
    'test_dataloader.dataset.pipeline.1.scale=(133,80)',
]


def coco_tiny(data_root):
    """Options that let the COCO config read coco_tiny."""
    root = data_root / 'coco_tiny'
    return [
        *(f'{loader}_dataloader.dataset.data_root={root}' for loader in ('train', 'val', 'test')),
        *(f'{task}_evaluator.ann_file={root}/annotations/instances_val2017.json' for task in ('val', 'test')),
    ]


def load(path):
    cfg = Config.fromfile(path)
    cfg.model.backbone.init_cfg = None
    return cfg


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    return model


@pytest.fixture(scope='module')
def full_size():
    """The 1x config and its model."""
    cfg = load(COCO)
    return cfg, build(cfg)


@pytest.fixture
def tower(tmp_path):
    """A checkpoint as pretraining leaves it: its image tower at 112 px, and something that is not of the tower."""
    weights = {
        f'image_encoder.{name}': value
        for name, value in CLIPVisionTransformer(arch='ViT-Ti/16', img_size=112).state_dict().items()
    }
    path = tmp_path / 'pretrained.pth'
    torch.save(dict(state_dict={**weights, 'text_projection.bias': torch.zeros(3)}), path)
    return path


def test_the_optimizer_is_the_supplements(full_size):
    cfg, model = full_size
    groups = {
        id(parameter): group
        for group in build_optim_wrapper(model, cfg.optim_wrapper).optimizer.param_groups
        for parameter in group['params']
    }
    groups = {name: groups[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad}
    base, decay = 1e-4, 0.75
    expected = {
        'backbone.pos_embed': (base * decay**13, 0.0),
        'backbone.cls_token': (base * decay**13, 0.0),
        'backbone.patch_embed.projection.weight': (base * decay**13, 0.05),
        'backbone.layers.0.attn.qkv.weight': (base * decay**12, 0.05),
        'backbone.layers.0.ln1.weight': (base * decay**12, 0.0),
        'backbone.layers.11.ffn.layers.1.weight': (base * decay, 0.05),
        'backbone.layers.11.ffn.layers.1.bias': (base * decay, 0.0),
        'neck.0.upsample_4x.0.weight': (base, 0.05),
        'neck.0.upsample_4x.1.weight': (base, 0.0),
        'neck.1.fpn_convs.0.conv.weight': (base, 0.05),
        'rpn_head.rpn_cls.weight': (base, 0.05),
        'roi_head.bbox_head.fc_cls.weight': (base, 0.05),
        'roi_head.mask_head.conv_logits.bias': (base, 0.0),
    }
    assert {name: (groups[name]['lr'], groups[name]['weight_decay']) for name in expected} == {
        name: pytest.approx(values) for name, values in expected.items()
    }
    last = model.backbone.layers[-1]
    assert [last.attn.out_drop.drop_prob, last.ffn.dropout_layer.drop_prob] == pytest.approx([0.1, 0.1])


def test_the_schedule_is_1x():
    cfg = Config.fromfile(COCO)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build({**each, 'optimizer': optimizer}) for each in cfg.param_scheduler]
    rates, steps_per_epoch = [], 600
    for _ in range(cfg.train_cfg.max_epochs):
        for _ in range(steps_per_epoch):
            rates.append(optimizer.param_groups[0]['lr'])
            optimizer.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()
    assert len(rates) == 12 * steps_per_epoch
    assert [rates[0], rates[499], rates[8 * steps_per_epoch - 1]] == pytest.approx([1e-7, 1e-4, 1e-4])
    assert [rates[8 * steps_per_epoch], rates[11 * steps_per_epoch - 1]] == pytest.approx([1e-5, 1e-5])
    assert [rates[11 * steps_per_epoch], rates[-1]] == pytest.approx([1e-6, 1e-6])
    # On the 8 processes of the config's command.
    assert 8 * cfg.train_dataloader.batch_size == 16


def test_images_are_800_by_at_most_1333_and_padded_to_whole_patches(full_size, data_root):
    cfg, model = full_size
    for split in ('train', 'val'):
        dataset_cfg = cfg[f'{split}_dataloader'].dataset.to_dict()
        dataset = DATASETS.build({**dataset_cfg, 'data_root': str(data_root / 'coco_tiny')})
        samples = [dataset[index] for index in range(2)]
        for sample in samples:
            short, long = sorted(sample['inputs'].shape[1:])
            height, width = sample['data_samples'].ori_shape
            assert (short, long) == pytest.approx(
                [side * min(800 / min(height, width), 1333 / max(height, width)) for side in sorted((height, width))],
                abs=1,
            )
        inputs = model.data_preprocessor(pseudo_collate(samples))['inputs']
        assert [side % 32 for side in inputs.shape[2:]] == [0, 0]


@pytest.mark.parametrize('name', ['vitb16_coco_1x', 'vitb16_coco_1x_windows', 'vitt16_coco_tiny'])
def test_maps_of_any_image_size_have_the_strides_of_an_fpn(name, full_size):
    model = full_size[1] if name == 'vitb16_coco_1x' else build(load(CONFIGS / f'{name}.py'))
    with torch.no_grad():
        maps = model.eval().extract_feat(torch.rand(1, 3, 96, 256))
    assert [map_.shape[2:] for map_ in maps] == [(24, 64), (12, 32), (6, 16), (3, 8), (2, 4)]
    assert [stride[0] for stride in model.rpn_head.prior_generator.strides] == [4, 8, 16, 32, 64]


def test_trains_from_a_pretraining_checkpoint_and_evaluates(data_root, tower, tmp_path, monkeypatch):
    from mmdet.models import MaskRCNN

    spoil(monkeypatch, MaskRCNN, iteration=2)
    options = [*SHORT, *SMALL, *coco_tiny(data_root)]
    run = ['--work-dir', str(tmp_path / 'run'), '--cfg-options', *options]
    train([str(COCO), *run, f'model.backbone.init_cfg.checkpoint={tower}'])
    log = max((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'Epoch(val) [1][3/3]' in log
    assert 'coco/bbox_mAP' in log
    assert 'coco/segm_mAP' in log

    trained = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    before = torch.load(tower)['state_dict']['image_encoder.layers.5.attn.qkv.weight']
    # The tower has been loaded, one step has moved it, and one was skipped.
    assert [record['iteration'] for record in skipped(tmp_path / 'run')] == [2]
    assert 0 < (trained['backbone.layers.5.attn.qkv.weight'] - before).abs().max() < 1e-4

    metrics = evaluate([str(COCO), str(tmp_path / 'run/epoch_1.pth'), '--show-dir', str(tmp_path / 'drawn'), *run])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= set(metrics)
    assert len(list((tmp_path / 'drawn').rglob('*.jpg'))) == 3


def test_two_processes_train_and_predict_what_one_does(data_root, tmp_path):
    def options(name, task):
        return [
            '--work-dir', str(tmp_path / name), '--cfg-options', *SHORT, 'model.backbone.init_cfg=None',
            f'{task}_evaluator.outfile_prefix={tmp_path}/{name}',
            *(f'{loader}_dataloader.dataset.data_root={data_root}/coco_tiny' for loader in ('train', 'val', 'test')),
            *(f'{each}_evaluator.ann_file={data_root}/coco_tiny/{ANNOTATIONS}' for each in ('val', 'test')),
        ]  # fmt: skip

    run_ranks(train, [str(TINY), '--launcher', 'pytorch', *options('two', 'val')])
    log = next((tmp_path / 'two').glob('*/*.log')).read_text()
    assert 'Epoch(train) [1][1/1]' in log.replace('  ', ' ')

    evaluate([str(TINY), str(tmp_path / 'two/epoch_1.pth'), *options('one', 'test')])

    def boxes(name):
        found = json.loads((tmp_path / f'{name}.bbox.json').read_text())
        return sorted((box['image_id'], box['category_id'], round(box['score'], 4), *box['bbox']) for box in found)

    assert len({box[0] for box in boxes('one')}) == 3
    assert len(boxes('two')) == len(boxes('one'))
    for two, one in zip(boxes('two'), boxes('one'), strict=True):
        assert two == pytest.approx(one, abs=1e-2)


@pytest.fixture(scope='module')
def tiny_detector():
    model = build(load(TINY)).eval()
    # Batch normalization with its initial statistics would pass anything through; with these it is a real layer.
    model.neck[0].upsample_4x[1].running_mean.normal_()
    return model


def maps_of(model, *images):
    inputs = model.data_preprocessor(dict(inputs=list(images)))['inputs']
    with torch.no_grad():
        return inputs.shape[2:], model.extract_feat(inputs)[0][0]


def test_boxes_are_float32_whatever_the_precision_of_the_towers(tiny_detector):
    image = torch.randint(0, 256, (3, 192, 320), dtype=torch.uint8)
    sample = DetDataSample(metainfo=dict(img_shape=(192, 320), ori_shape=(192, 320), scale_factor=(1.0, 1.0)))
    batch = tiny_detector.data_preprocessor(dict(inputs=[image], data_samples=[sample]))
    proposals, found = [], []
    predict = tiny_detector.roi_head.predict
    tiny_detector.roi_head.predict = lambda feats, rois, *rest, **more: (
        proposals.append(rois[0].bboxes),
        predict(feats, rois, *rest, **more),
    )[1]
    try:
        for low in (False, True):
            with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=low):
                found.append(tiny_detector.predict(batch['inputs'], batch['data_samples'])[0].pred_instances)
    finally:
        del tiny_detector.roi_head.predict
    assert {boxes.dtype for boxes in proposals} == {torch.float32}
    # Values between those that bfloat16 has.
    assert (proposals[1] != proposals[1].bfloat16()).float().mean() > 0.3
    assert {found[1].bboxes.dtype, found[1].scores.dtype} == {torch.float32}
    # The best proposals are those of full precision, to less than a step of bfloat16 at 300 pixels.
    distances = (proposals[0][:20, None] - proposals[1][None]).abs().amax(-1).amin(1)
    assert (distances < 1).float().mean() > 0.7


@pytest.mark.parametrize('path', [COCO, TINY, paths.CONFIGS / 'ov_mask_rcnn/vitt16_coco_tiny.py'], ids=lambda p: p.stem)
def test_no_head_of_the_configs_works_in_another_precision(path):
    model = Config.fromfile(path).model
    roi = model.roi_head
    heads = (model.rpn_head, roi.bbox_roi_extractor, roi.bbox_head, roi.mask_roi_extractor, roi.mask_head)
    assert all(head.type.startswith('mmmaskclip.Float32') for head in heads)


def test_an_image_among_others_of_its_size_gives_what_it_gives_alone(tiny_detector):
    image, other = torch.randint(0, 256, (2, 3, 75, 110), dtype=torch.uint8)
    size, alone = maps_of(tiny_detector, image)
    assert size == (96, 128)
    _, together = maps_of(tiny_detector, image, other)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a_larger_neighbour_changes_an_images_features(tiny_detector):
    # Positions are stretched over the padded batch, and padding is attended to: why the configs evaluate one by one.
    image = torch.randint(0, 256, (3, 75, 110), dtype=torch.uint8)
    _, alone = maps_of(tiny_detector, image)
    size, padded = maps_of(tiny_detector, image, torch.zeros(3, 160, 90, dtype=torch.uint8))
    assert size == (160, 128)
    difference = (padded[:, :16, :24] - alone[:, :16, :24]).abs().mean() / alone.abs().mean()
    assert difference > 0.01
    for path in (COCO, TINY):
        cfg = Config.fromfile(path)
        assert cfg.val_dataloader.batch_size == cfg.test_dataloader.batch_size == 1


@pytest.mark.parametrize(
    'backbone',
    [
        dict(
            type='mmpretrain.VisionTransformer',
            arch='deit-tiny',
            img_size=224,
            out_type='featmap',
            out_indices=[3, 5, 7, 11],
            final_norm=False,
        ),
        dict(
            type='mmpretrain.TIMMBackbone',
            model_name='vit_tiny_patch16_224',
            features_only=True,
            out_indices=[3, 5, 7, 11],
            dynamic_img_size=True,
        ),
        # As OpenAI's and OpenCLIP's weights need it.
        dict(
            type='mmmaskclip.CLIPVisionTransformer',
            arch='ViT-Ti/16',
            img_size=224,
            pre_norm=True,
            quick_gelu=True,
            norm_cfg=dict(type='LN', eps=1e-5),
            out_type='featmap',
            out_indices=[3, 5, 7, 11],
            final_norm=False,
        ),
    ],
    ids=['mmpretrain', 'timm', 'openclip'],
)
def test_other_vision_transformers_for_comparison(backbone, data_root):
    cfg = load(TINY)
    cfg.model.backbone = backbone
    model = build(cfg)
    dataset_cfg = cfg.train_dataloader.dataset.to_dict()
    dataset = DATASETS.build({**dataset_cfg, 'data_root': str(data_root / 'coco_tiny'), 'indices': 2})
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    losses = model.train_step(pseudo_collate([dataset[0], dataset[1]]), optimizer)
    assert all(torch.isfinite(value).all() for value in losses.values())
    stem = next(parameter for name, parameter in model.named_parameters() if name.endswith('pos_embed'))
    rates = [group['lr'] for group in optimizer.optimizer.param_groups if any(stem is each for each in group['params'])]
    assert rates == pytest.approx([cfg.optim_wrapper.optimizer.lr * 0.75**13])
