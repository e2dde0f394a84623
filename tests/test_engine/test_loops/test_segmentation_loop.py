"""Zero-shot segmentation of mmseg's data sets in mmengine's Runner, on one process and on two."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from ranks import run_ranks

import mmmaskclip.evaluation.checked_iou_metric  # noqa: F401  (registers the metric)
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.open_vocabulary.segmentor import ZeroShotSegmentor
from mmmaskclip.registry import HOOKS

CLASSES = ('cat', 'dog', 'grass')
MODEL = dict(
    type='ImageTextPretrainer',
    data_preprocessor=dict(type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
    image_encoder=dict(
        type='CLIPVisionTransformer',
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
        patch_size=8,
        img_size=32,
    ),
    image_projection=dict(type='ImageProjectionHead', in_channels=32, embed_dims=16),
    text_encoder=dict(type='CLIPTextTransformer', width=16, num_layers=1, num_heads=2),
    text_projection=dict(type='TextProjectionHead', in_channels=16, embed_dims=16),
    objectives=dict(contrast=dict(type='ImageTextContrast')),
)
SEGMENTOR = dict(templates=['a {}', '{} here'], test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16)))


def write_images(root):
    """Five images of different sizes with masks; 255 is ignored."""
    random = np.random.default_rng(0)
    for folder in ('images', 'masks'):
        Path(root, folder).mkdir(parents=True)
    for index in range(5):
        size = (30 + 5 * index, 50 - 3 * index)
        blocks = [np.kron(random.integers(256, size=(9, 9)), np.ones((8, 8)))[: size[0], : size[1]] for _ in range(3)]
        Image.fromarray(np.stack(blocks, -1).astype(np.uint8)).save(Path(root, 'images', f'{index}.png'))
        mask = random.choice([0, 1, 2, 255], size=size).astype(np.uint8)
        Image.fromarray(mask).save(Path(root, 'masks', f'{index}.png'))


def make_runner(root, work_dir, mode='test', **kwargs):
    register_all_modules()
    dataset = dict(
        type='mmseg.BaseSegDataset',
        metainfo=dict(classes=CLASSES),
        data_root=str(root),
        img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        pipeline=[dict(type=f'mmseg.{name}') for name in ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')],
        test_mode=True,
    )
    loader = dict(
        batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dataset
    )  # fmt: skip
    return Runner(
        model=MODEL,
        work_dir=str(work_dir),
        default_scope='mmmaskclip',
        randomness=dict(seed=0),
        experiment_name=f'{Path(work_dir).name}-{mode}',
        **{
            f'{mode}_dataloader': dict(pets=loader),
            f'{mode}_evaluator': dict(
                pets=dict(type='CheckedIoUMetric', iou_metrics=['mIoU'], collect_device='gpu')
            ),
            f'{mode}_cfg': dict(type='ZeroShotSegmentationLoop', segmentor=SEGMENTOR),
        },
        **kwargs,
    )  # fmt: skip


def run(runner, mode='test'):
    runner._init_model_weights()
    return {name: float(value) for name, value in getattr(runner, mode)().items()}


@pytest.mark.parametrize(
    ('mask', 'message'),
    [
        (np.full((30, 50), 31, np.uint8), 'holds the value 31, but there are 3 classes and 255 is ignored'),
        (np.zeros((30, 50, 3), np.uint8), 'one value per pixel is needed: convert colours'),
        (np.zeros((15, 25), np.uint8), r'the mask is \(15, 25\), its image \(30, 50\)'),
    ],
    ids=['no class', 'colours', 'half size'],
)
def test_masks_that_do_not_belong_to_the_data_are_named(tmp_path, mask, message):
    write_images(tmp_path / 'data')
    Image.fromarray(mask).save(tmp_path / 'data/masks/0.png')
    with pytest.raises(ValueError, match=rf'masks/0\.png: .*{message}'):
        run(make_runner(tmp_path / 'data', tmp_path / 'work'))


def test_logits_that_are_not_finite_are_refused(tmp_path):
    write_images(tmp_path / 'data')
    runner = make_runner(tmp_path / 'data', tmp_path / 'work')
    runner._init_model_weights()
    runner.model.image_encoder.ln1.weight.data[0] = torch.nan
    with pytest.raises(ValueError, match=r'images/0\.png.* is not finite'):
        runner.test()


@HOOKS.register_module(force=True)
class CountBatches(Hook):
    seen: list = []

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.seen.append((batch_idx, tuple(outputs[0].pred_sem_seg.data.shape)))


def test_metrics_are_numpys_of_the_segmentors_predictions(tmp_path):
    write_images(tmp_path / 'data')
    CountBatches.seen = []
    runner = make_runner(tmp_path / 'data', tmp_path / 'work', custom_hooks=[dict(type='CountBatches')])
    runner.model.train()
    found = run(runner)
    assert runner.model.training
    assert CountBatches.seen == [(index, (1, 30 + 5 * index, 50 - 3 * index)) for index in range(5)]

    segmentor = ZeroShotSegmentor(runner.model.eval(), CLASSES, **SEGMENTOR)
    predicted, truth = [], []
    for index in range(5):
        image = Image.open(tmp_path / f'data/images/{index}.png')
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        inputs = runner.model.data_preprocessor({'image': pixels[None]})['image']
        with torch.no_grad():
            logits = segmentor.inference(inputs, [dict(ori_shape=tuple(inputs.shape[2:]))])
        mask = np.array(Image.open(tmp_path / f'data/masks/{index}.png'))
        predicted.append(logits[0].argmax(0).numpy()[mask != 255])
        truth.append(mask[mask != 255])
    predicted, truth = np.concatenate(predicted), np.concatenate(truth)
    assert len(np.unique(predicted)) > 1
    ious = [((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum() for c in range(3)]
    # mmseg rounds to two digits.
    assert found['pets/mIoU'] == pytest.approx(100 * np.mean(ious), abs=0.006)
    assert found['pets/aAcc'] == pytest.approx(100 * (predicted == truth).mean(), abs=0.006)


def test_serves_validation_too_with_the_weights_of_the_moment(tmp_path):
    write_images(tmp_path / 'data')
    assert run(make_runner(tmp_path / 'data', tmp_path / 'one')) == run(
        make_runner(tmp_path / 'data', tmp_path / 'two', 'val', train_dataloader=None), 'val'
    )
    runner = make_runner(tmp_path / 'data', tmp_path / 'three')
    before = run(runner)
    for parameter in runner.model.text_encoder.parameters():
        torch.nn.init.normal_(parameter)
    assert runner.test() != before


def test_two_processes_give_the_metrics_of_one(tmp_path):
    write_images(tmp_path / 'data')
    run_ranks(evaluate_as_one_of_two, tmp_path)
    expected = run(make_runner(tmp_path / 'data', tmp_path / 'one'))
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == expected


def evaluate_as_one_of_two(folder: Path) -> None:
    torch.distributed.init_process_group('gloo')
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    cfg = dict(model_wrapper_cfg=wrapper, launcher='pytorch')
    runner = make_runner(folder / 'data', folder / 'both', cfg=cfg, launcher='pytorch')
    (folder / f'{torch.distributed.get_rank()}.json').write_text(json.dumps(run(runner)))
