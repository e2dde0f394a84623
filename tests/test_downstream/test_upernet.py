"""UperNet: the configs against the supplement's recipe, and runs of a few steps on real images."""

import re
from copy import deepcopy

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import METRICS, MODELS, PARAM_SCHEDULERS
from mmseg.structures import SegDataSample
from paths import ROOT
from PIL import Image
from ranks import run_ranks
from spoiled import skipped, spoil

from mmmaskclip.cli.test import main as evaluate
from mmmaskclip.cli.train import main as train
from mmmaskclip.models.backbones import CLIPVisionTransformer

ADE20K, CAMVID = ROOT / 'configs/upernet/vitb16_ade20k.py', ROOT / 'configs/upernet/vitt16_camvid.py'


@pytest.fixture(autouse=True)
def mmseg_scope():
    DefaultScope.get_instance('upernet-tests', scope_name='mmseg')


@pytest.fixture(scope='module')
def ade20k():
    """The ADE20K config and its model at full size, without memory for its weights."""
    DefaultScope.get_instance('upernet-model', scope_name='mmseg')
    cfg = Config.fromfile(ADE20K)
    with torch.device('meta'):
        return cfg, MODELS.build(cfg.model)


def test_supplements_model(ade20k):
    _, model = ade20k
    tower = model.backbone
    assert type(tower) is CLIPVisionTransformer
    assert sum(p.numel() for p in tower.parameters()) == pytest.approx(86.3e6, rel=0.01)
    assert tower.out_indices == [3, 5, 7, 11]
    assert max(layer.attn.out_drop.drop_prob for layer in tower.layers) == pytest.approx(0.1)
    with torch.device('meta'):
        maps = model.eval().extract_feat(torch.empty(1, 3, 512, 512))
    # Patches of 16 px: 4, 2, 1 and 1/2 of a grid of 32.
    assert [tuple(level.shape[1:]) for level in maps] == [(768, side, side) for side in (128, 64, 32, 16)]
    assert (model.num_classes, model.decode_head.channels, model.auxiliary_head.channels) == (150, 768, 256)


def test_supplements_optimizer(ade20k):
    cfg, model = ade20k
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    assert type(wrapper.optimizer) is torch.optim.AdamW
    found = {
        id(param): (group['lr'], group['weight_decay'])
        for group in wrapper.optimizer.param_groups
        for param in group['params']
    }
    params = dict(model.named_parameters())
    assert len(found) == len(params)
    for name, param in params.items():
        block = re.match(r'backbone\.layers\.(\d+)\.', name)
        depth = int(block[1]) + 1 if block else 0 if name.startswith('backbone.') else 13
        tokens = name in ('backbone.pos_embed', 'backbone.cls_token')
        expected = (2e-4 * 0.6 ** (13 - depth), 0.0 if tokens or param.ndim < 2 else 0.05)
        assert found[id(param)] == pytest.approx(expected), name


def test_supplements_schedule(ade20k):
    cfg, _ = ade20k
    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert cfg.train_cfg.max_iters == 160_000
    assert 8 * cfg.train_dataloader.batch_size == 16
    lrs = _learning_rates(cfg)
    assert len(lrs) == 160_000
    # Warm-up of 1,500 iterations, then linear to 0 in the last one.
    assert lrs[0] == pytest.approx(2e-10)
    assert lrs[750] == pytest.approx(1e-4, rel=2e-3)
    assert max(lrs) == pytest.approx(2e-4)
    assert lrs[1499:1501] == pytest.approx([2e-4, 2e-4])
    assert lrs[1500 + 158_500 // 2] == pytest.approx(1e-4, rel=1e-4)
    assert lrs[-1] == pytest.approx(0, abs=1e-12)


def test_camvids_schedule_ends_with_its_run():
    cfg = Config.fromfile(CAMVID)
    lrs = _learning_rates(cfg)
    assert lrs[30] == pytest.approx(max(lrs)) == pytest.approx(cfg.optim_wrapper.optimizer.lr)
    assert lrs[-2] > lrs[-1] == pytest.approx(0, abs=1e-9)


def _learning_rates(cfg):
    """The learning rate of every iteration at depth L + 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = [PARAM_SCHEDULERS.build(dict(scheduler, optimizer=optimizer)) for scheduler in cfg.param_scheduler]
    lrs = []
    for _ in range(cfg.train_cfg.max_iters):
        lrs.append(optimizer.param_groups[0]['lr'])
        for scheduler in schedulers:
            scheduler.step()
    return lrs


@pytest.mark.parametrize(('config', 'side', 'tested'), [(ADE20K, 512, (512, 683)), (CAMVID, 224, (256, 341))])
def test_input_sizes(config, side, tested, data_root):
    cfg = Config.fromfile(config)
    name = sorted(path.stem for path in (data_root / 'camvid/images/train').iterdir())[0]
    image = dict(
        img_path=str(data_root / f'camvid/images/train/{name}.jpg'),
        seg_map_path=str(data_root / f'camvid/masks/train/{name}.png'),
        reduce_zero_label=config == ADE20K,
        label_map=None,
        seg_fields=[],
    )
    preprocess = MODELS.build(cfg.model.data_preprocessor)
    training, testing = (Compose(cfg[f'{split}_dataloader'].dataset.pipeline) for split in ('train', 'test'))
    steps = [step.type.split('.')[-1] for step in cfg.train_dataloader.dataset.pipeline]
    assert {'RandomResize', 'RandomCrop', 'RandomFlip', 'PhotoMetricDistortion'} <= set(steps)
    assert cfg.train_dataloader.dataset.pipeline[2].ratio_range == (0.5, 2.0)
    for _ in range(4):
        sample = training(deepcopy(image))
        batch = preprocess(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]), training=True)
        assert batch['inputs'].shape == (1, 3, side, side)
        assert batch['data_samples'][0].gt_sem_seg.shape == (side, side)
    sample = testing(deepcopy(image))
    assert sample['inputs'].shape[1:] == tested
    assert sample['data_samples'].gt_sem_seg.shape == (360, 480)
    assert cfg.model.test_cfg.mode == 'slide'
    assert cfg.model.test_cfg.crop_size == (side, side)


def _pretraining_checkpoint(path):
    """What a pretraining run of the 112 px model leaves, as far as it concerns the image tower."""
    tower = CLIPVisionTransformer('ViT-Ti/16', img_size=112)
    tower.init_weights()
    weights = {f'image_encoder.{name}': value for name, value in tower.state_dict().items()}
    torch.save({'state_dict': {**weights, 'image_projection.proj.weight': torch.ones(2, 2)}, 'meta': {}}, path)
    return weights


def _options(checkpoint, data_root):
    """Two steps, and two images of the test set."""
    camvid = f'{data_root}/camvid'
    return [
        '--cfg-options',
        f'model.backbone.init_cfg.checkpoint={checkpoint}',
        'train_dataloader.batch_size=2',
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
        'default_hooks.logger.interval=1',
        'val_dataloader.dataset.data_prefix.img_path=images/test',
        'val_dataloader.dataset.data_prefix.seg_map_path=masks/test',
        *(f'{split}_dataloader.dataset.data_root={camvid}' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.dataset.indices=2' for split in ('val', 'test')),
        *(f'{split}_dataloader.num_workers=0' for split in ('train', 'val', 'test')),
        *(f'{split}_dataloader.persistent_workers=False' for split in ('train', 'val', 'test')),
    ]


def test_trains_and_tests_and_draws(tmp_path, data_root, monkeypatch):
    spoil(monkeypatch, MODELS.get('EncoderDecoder'), iteration=2)
    pretrained = _pretraining_checkpoint(tmp_path / 'pretrained.pth')
    options = _options(tmp_path / 'pretrained.pth', data_root)
    train([str(CAMVID), '--work-dir', str(tmp_path / 'run'), '--amp', *options])
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'Iter(train) [2/2]' in log
    (record,) = skipped(tmp_path / 'run')
    assert (record['iteration'], record['not_finite'][0]) == (2, 'loss')
    assert all(sample.endswith('.jpg') for sample in record['samples'])
    trained = torch.load(tmp_path / 'run/iter_2.pth', weights_only=False)['state_dict']
    # One step of warm-up moves it by less than this; a random start would differ by much more.
    first = 'layers.0.attn.qkv.weight'
    torch.testing.assert_close(trained[f'backbone.{first}'], pretrained[f'image_encoder.{first}'], atol=1e-4, rtol=0)
    assert trained['backbone.pos_embed'].shape == (1, 14 * 14 + 1, 192)

    shown = tmp_path / 'shown'
    arguments = ['--work-dir', str(tmp_path / 'run'), '--show-dir', str(shown), *options]
    metrics = evaluate([str(CAMVID), str(tmp_path / 'run/iter_2.pth'), *arguments])
    validated = re.search(r'Iter\(val\) \[2/2\].* mIoU: ([\d.]+)', log)
    assert metrics['mIoU'] == pytest.approx(float(validated[1]), abs=1e-3)
    drawn = sorted(shown.rglob('*.png'))
    assert len(drawn) == 2
    image = np.asarray(Image.open(drawn[0]))
    assert image.shape == (360, 960, 3)  # labels and prediction side by side
    assert (image[:, :480] != image[:, 480:]).any()


def test_two_processes(tmp_path, data_root):
    _pretraining_checkpoint(tmp_path / 'pretrained.pth')
    arguments = [str(CAMVID), '--launcher', 'pytorch', '--work-dir', str(tmp_path / 'run')]
    run_ranks(train, [*arguments, *_options(tmp_path / 'pretrained.pth', data_root)])
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert re.search(r'Iter\(val\) \[1/1\].* mIoU: ', log)
    assert (tmp_path / 'run/iter_2.pth').is_file()


COMPARED = {
    'mmpretrain': dict(type='mmpretrain.VisionTransformer', arch='deit-t', img_size=64, out_type='featmap',
                       out_indices=[3, 5, 7, 11], final_norm=False, drop_path_rate=0.1),
    'timm': dict(type='mmpretrain.TIMMBackbone', model_name='vit_tiny_patch16_224', features_only=True,
                 img_size=64, out_indices=(3, 5, 7, 11), drop_path_rate=0.1),
    'openclip': dict(type='mmmaskclip.CLIPVisionTransformer', arch='ViT-Ti/16', img_size=64, out_type='featmap',
                     out_indices=[3, 5, 7, 11], final_norm=False, drop_path_rate=0.1, pre_norm=True,
                     norm_cfg=dict(type='LN', eps=1e-5)),
}  # fmt: skip


@pytest.mark.parametrize('backbone', COMPARED)
def test_other_towers_train_in_the_same_config(backbone):
    if backbone == 'timm':
        pytest.importorskip('timm')
    cfg = Config.fromfile(CAMVID)
    cfg.merge_from_dict(dict(model=dict(backbone=dict(_delete_=True, **COMPARED[backbone]))))
    cfg.model.data_preprocessor.size = (64, 64)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    groups = wrapper.optimizer.param_groups
    assert {round(group['lr'] / 1e-3, 6) for group in groups} == {round(0.6**depth, 6) for depth in range(14)}
    before = [param.detach().clone() for param in model.backbone.parameters() if param.requires_grad]
    labels = torch.randint(0, 11, (1, 64, 64))
    batch = dict(
        inputs=[torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(2)],
        data_samples=[SegDataSample(gt_sem_seg=PixelData(data=labels), metainfo={}) for _ in range(2)],
    )
    losses = model.train_step(batch, wrapper)
    assert losses['loss'].isfinite()
    moved = [
        not torch.equal(old, new)
        for old, new in zip(before, (p for p in model.backbone.parameters() if p.requires_grad), strict=True)
    ]
    assert sum(moved) > 0.9 * len(moved)


def test_timms_weights_come_from_a_local_file(tmp_path):
    timm = pytest.importorskip('timm')
    save_file = pytest.importorskip('safetensors.torch').save_file
    weights = timm.create_model('vit_tiny_patch16_224', pretrained=False).state_dict()
    save_file(weights, tmp_path / 'weights.safetensors')
    local = dict(pretrained=True, pretrained_cfg_overlay=dict(file=str(tmp_path / 'weights.safetensors')))
    tower = MODELS.build({**COMPARED['timm'], **local})
    torch.testing.assert_close(
        tower.timm_model.model.blocks[11].attn.qkv.weight, weights['blocks.11.attn.qkv.weight'], atol=0, rtol=0
    )
    assert tower.timm_model.model.pos_embed.shape == (1, 4 * 4 + 1, 192)


def test_predictions_and_metric_agree_with_and_without_amp():
    cfg = Config.fromfile(CAMVID)
    cfg.model.test_cfg = dict(mode='whole')
    cfg.merge_from_dict(dict(model=dict(backbone=dict(_delete_=True, **COMPARED['openclip']))))
    cfg.model.decode_head.channels = cfg.model.auxiliary_head.channels = 16
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    torch.manual_seed(0)
    model.init_weights()
    model.eval()
    images = torch.randn(2, 3, 64, 64)
    shape = dict(
        img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), padding_size=[0] * 4, reduce_zero_label=False
    )
    found, tables = [], []
    for low in (False, True):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=low):
            found.append(model.predict(images, [SegDataSample(metainfo=shape) for _ in images]))
            # What full precision predicts is the truth for both.
            for sample, full in zip(found[-1], found[0], strict=True):
                sample.gt_sem_seg = PixelData(data=full.pred_sem_seg.data.clone())
            metric = METRICS.build(cfg.val_evaluator)
            metric.dataset_meta = dict(classes=[str(number) for number in range(model.num_classes)])
            metric.process({}, [sample.to_dict() for sample in found[-1]])
            tables.append(metric.evaluate(len(images)))
    full, low = (torch.stack([sample.seg_logits.data for sample in samples]) for samples in found)
    assert {full.dtype, low.dtype} == {torch.float32}
    assert (low != low.bfloat16()).float().mean() > 0.5  # between the values that bfloat16 has
    spread = (full - full.mean((2, 3), keepdim=True)).norm()
    assert 0 < (low - full).norm() < 0.1 * spread
    assert (tables[0]['aAcc'], tables[0]['mIoU']) == (100, 100)
    assert 90 < tables[1]['aAcc'] < 100
