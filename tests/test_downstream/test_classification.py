"""Linear probe and fine-tuning: the recipes of the supplement, and runs by the command line on real data."""

import ast
import json
import os
import tarfile
from pathlib import Path

import mmpretrain
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.models import ImageClassifier
from paths import CONFIGS
from ranks import run_ranks
from spoiled import skipped, spoil

from mmmaskclip.cli import test as cli_test
from mmmaskclip.cli import train as cli_train
from mmmaskclip.engine import ReliableRunner
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.backbones.vision_transformer import ARCHITECTURES
from mmmaskclip.registry import METRICS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS
from mmmaskclip.startup.processes import setup_processes

LINEAR = [
    f'linear_probe/{name}.py' for name in ('vitb16_in1k', 'vitb16_in1k_cls', 'vitb32_openclip_cls', 'vitt16_cifar10')
]
FINETUNE = ['finetune/vitb16_in1k.py', 'finetune/vitt16_cifar10.py']
PROBES = [f'probes/{name}.py' for name in ('cifar10_linear', 'cifar10_logistic', 'cifar10_few_shot')]
PROBES += ['probes/pets_logistic.py', 'probes/imagenet_linear.py']


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()


@pytest.fixture(scope='module')
def cifar10(data_root, tmp_path_factory):
    """Folder with eight images of each class of CIFAR-10 in each split."""
    folder = tmp_path_factory.mktemp('eval')
    for split in ('train', 'test'):
        with tarfile.open(data_root / f'cifar10/{split}.tar') as archive:
            chosen = [member for member in archive if member.name.endswith(tuple(f'000{i}.jpg' for i in range(8)))]
            archive.extractall(folder / 'cifar10_folder', members=chosen, filter='data')
    return folder


def build(cfg):
    DefaultScope.get_instance(f'test-{id(cfg)}', scope_name='mmpretrain')
    with torch.device('meta'):
        return MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})


def optimizer_of(cfg):
    """The model on the meta device, and the groups that its optimizer gets."""
    model = build(cfg)
    wrapper = {name: value for name, value in cfg.optim_wrapper.items() if name not in ('constructor', 'paramwise_cfg')}
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(
        dict(
            type=cfg.optim_wrapper.constructor, optim_wrapper_cfg=wrapper, paramwise_cfg=cfg.optim_wrapper.paramwise_cfg
        )
    )
    return model, constructor(model).optimizer


def learning_rates(cfg, steps_per_epoch):
    """Of every step of the run, for a parameter with the plain learning rate."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.optim_wrapper.optimizer.lr)
    schedulers = []
    for scheduler in cfg.param_scheduler:
        options = {name: value for name, value in scheduler.items() if name not in ('type', 'convert_to_iter_based')}
        assert scheduler.convert_to_iter_based
        options.setdefault('end', cfg.train_cfg.max_epochs)  # as the Runner does
        kind = mmpretrain.registry.PARAM_SCHEDULERS.get(scheduler.type)
        schedulers.append(kind.build_iter_from_epoch(optimizer=optimizer, epoch_length=steps_per_epoch, **options))
    rates = []
    for _ in range(cfg.train_cfg.max_epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates


@pytest.mark.parametrize('name', [*LINEAR, *FINETUNE, *PROBES])
def test_header_gives_the_command(name):
    header = ' '.join(ast.get_docstring(ast.parse((CONFIGS / name).read_text())).split())
    assert f'configs/{name}' in header
    assert any(word in header for word in ('Measured on', 'not run', 'Not run'))


@pytest.mark.parametrize('name', LINEAR)
def test_linear_probe_is_maes_with_the_supplements_settings(name):
    cfg = Config.fromfile(CONFIGS / name)
    model, optimizer = optimizer_of(cfg)
    assert {name for name, value in model.named_parameters() if value.requires_grad} == {
        'head.fc.weight',
        'head.fc.bias',
    }
    assert type(optimizer).__name__ == 'LARS'
    found = {tuple(g['params'][0].shape): (g['lr'], g['momentum'], g['weight_decay']) for g in optimizer.param_groups}
    classes, width = model.head.fc.weight.shape
    assert found == {(classes, width): (6.4, 0.9, 0.0), (classes,): (6.4, 0.9, 0.0)}
    # MAE's LARS: no trust ratio for what has one dimension.
    assert {g['params'][0].ndim: g.get('lars_exclude', False) for g in optimizer.param_groups} == {2: False, 1: True}
    norm = (model.neck if name.endswith('cls.py') else model.neck[1]).bn
    assert (norm.affine, norm.eps, norm.num_features) == (False, 1e-6, width)
    assert model.backbone.out_type == ('cls_token' if name.endswith('cls.py') else 'featmap')
    assert model.backbone.final_norm


def test_schedules_of_the_linear_probe():
    cfg = Config.fromfile(CONFIGS / LINEAR[0])
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16384
    rates = learning_rates(cfg, 5)
    assert len(rates) == 90 * 5
    assert rates[0] == pytest.approx(6.4e-4)
    assert max(rates) == rates[50] == pytest.approx(6.4)
    assert rates[250] == pytest.approx(3.2, rel=1e-2)
    assert rates[-1] < 1e-3 * 6.4
    small = learning_rates(Config.fromfile(CONFIGS / LINEAR[2]), 5)
    assert (len(small), max(small)) == (100, pytest.approx(6.4))


@pytest.mark.parametrize('name', FINETUNE)
def test_fine_tuning_decays_by_layer(name):
    cfg = Config.fromfile(CONFIGS / name)
    model, optimizer = optimizer_of(cfg)
    assert cfg.optim_wrapper.optimizer.betas == (0.9, 0.999)
    names = {id(value): name for name, value in model.named_parameters()}
    found = {
        names[id(value)]: (group['lr'], group['weight_decay'])
        for group in optimizer.param_groups
        for value in group['params']
    }
    assert set(found) == set(names.values())
    for name, value in model.named_parameters():
        depth = 13
        if name.startswith('backbone.layers.'):
            depth = int(name.split('.')[2]) + 1
        elif name.startswith(('backbone.cls', 'backbone.pos', 'backbone.patch')):
            depth = 0
        decay = 0.05 if value.ndim > 1 and 'pos_embed' not in name and 'cls_token' not in name else 0.0
        assert found[name] == (pytest.approx(6e-4 * 0.7 ** (13 - depth)), decay), name


def test_fine_tuning_has_the_supplements_schedule_and_one_crop_of_224():
    cfg = Config.fromfile(CONFIGS / FINETUNE[0])
    assert 8 * cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 2048
    rates = learning_rates(cfg, 4)
    assert len(rates) == 400
    assert rates[0] == pytest.approx(1e-6)
    assert max(rates) == rates[80] == pytest.approx(6e-4)
    assert rates[-1] == pytest.approx(1e-6, rel=0.1)
    assert [step.get('crop_size', step.get('scale')) for step in cfg.test_dataloader.dataset.pipeline[1:3]] == [
        256,
        224,
    ]
    backbone = build(cfg).backbone
    assert sum(value.numel() for value in backbone.parameters()) / 1e6 == pytest.approx(85.80, abs=0.01)
    assert (backbone.out_type, tuple(backbone.img_size)) == ('featmap', (224, 224))


@pytest.mark.parametrize('name', PROBES)
def test_probes_read_both_splits_alike(name, monkeypatch):
    cfg = Config.fromfile(CONFIGS / name)
    ((task, metric),) = cfg.test_evaluator.items()
    METRICS.build({**metric, 'prefix': task})
    train_set, test_set = metric.train_dataloader.dataset, cfg.test_dataloader[task].dataset
    for key in ('transforms', 'classes', 'num_classes'):
        assert train_set[key] == test_set[key]
    assert train_set.source != test_set.source


def shrink(name, folder, tower=None):
    """The config with one block, on the folder of images, for two steps; its path."""
    cfg = Config.fromfile(CONFIGS / name)
    letter = cfg.model.backbone.arch[4:].partition('/')[0]
    cfg.model.backbone.update(arch={**ARCHITECTURES[letter], 'num_layers': 1}, patch_size=16)
    if cfg.model.backbone.get('frozen_stages'):
        cfg.model.backbone.frozen_stages = 1
    cfg.model.backbone.init_cfg = tower and dict(type='Pretrained', checkpoint=str(tower), prefix='image_encoder.')
    for split, loader in (('train', cfg.train_dataloader), ('test', cfg.val_dataloader), ('test', cfg.test_dataloader)):
        loader.update(num_workers=0, persistent_workers=False, batch_size=2 if letter == 'B' else 40)
        loader.dataset.pop('split', None)
        if letter == 'B':
            loader.dataset.indices = 4
        loader.dataset.update(type='mmpretrain.CustomDataset', data_root=str(folder / 'cifar10_folder' / split))
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.param_scheduler = []
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    return cfg


def pretrained(cfg, path):
    """A checkpoint of pretraining with the tower of a config; returns the tower's weights."""
    backbone = {k: v for k, v in cfg.model.backbone.items() if k not in ('init_cfg', 'frozen_stages')}
    tower = MODELS.build(backbone)
    tower.init_weights()
    state = {f'image_encoder.{name}': value for name, value in tower.state_dict().items()}
    torch.save({'state_dict': {**state, 'logit_scale': torch.zeros(())}}, path)
    return tower.state_dict()


@pytest.mark.parametrize('name', [*LINEAR, *FINETUNE])
def test_two_steps_and_an_evaluation_on_real_images(name, cifar10, tmp_path, monkeypatch):
    spoil(monkeypatch, ImageClassifier, iteration=2)
    path = tmp_path / 'tower.pth'
    cfg = shrink(name, cifar10, path)
    tower = pretrained(cfg, path)
    cfg.dump(tmp_path / 'config.json')
    work_dir = tmp_path / 'run'
    cli_train.main([str(tmp_path / 'config.json'), '--work-dir', str(work_dir)])
    rows = [json.loads(line) for line in next(work_dir.glob('*/vis_data/scalars.json')).read_text().splitlines()]
    assert len([row for row in rows if 'loss' in row]) == 2
    (record,) = skipped(work_dir)
    assert record['iteration'] == 2
    assert {Path(sample).suffix for sample in record['samples']} == {'.jpg'}
    validated = next(row['accuracy/top1'] for row in rows if 'accuracy/top1' in row)
    trained = torch.load(work_dir / 'epoch_1.pth', weights_only=False)['state_dict']
    same = {key: torch.equal(trained[f'backbone.{key}'], value) for key, value in tower.items()}
    if name in LINEAR:
        assert all(same.values())  # loaded, and frozen
    else:
        assert not same['layers.0.attn.qkv.weight']
        torch.testing.assert_close(trained['backbone.pos_embed'], tower['pos_embed'], rtol=0, atol=1e-3)  # loaded
    metrics = cli_test.main(
        [str(tmp_path / 'config.json'), str(work_dir / 'epoch_1.pth'), '--work-dir', str(tmp_path / 'test')]
    )
    assert metrics['accuracy/top1'] == pytest.approx(validated)


def test_probes_on_real_images(cifar10, tmp_path, monkeypatch, tiny_model_cfg):
    monkeypatch.setenv('MMMASKCLIP_EVAL', str(cifar10))
    model = Config(dict(model=tiny_model_cfg()))
    model.dump(tmp_path / 'model.json')
    for name in PROBES[:3]:
        task = name.split('cifar10_')[1].removesuffix('.py')
        options = [f'test_dataloader.{task}.num_workers=0', f'test_evaluator.{task}.train_dataloader.num_workers=0']
        options += [f'test_dataloader.{task}.dataset.num_samples=80']
        options += [f'test_evaluator.{task}.train_dataloader.dataset.num_samples=80', 'visualizer=None']
        options += ['test_evaluator.few_shot.shots=[1,5]'] if task == 'few_shot' else []
        arguments = [str(CONFIGS / name), 'none', '--model', str(tmp_path / 'model.json'), '--work-dir', str(tmp_path)]
        metrics = cli_test.main([*arguments, '--cfg-options', *options])
        assert metrics[f'{task}/5_shot/top1' if task == 'few_shot' else f'{task}/top1'] > 10


def test_two_processes_evaluate_with_the_same_statistics(cifar10, tmp_path):
    cfg = shrink('linear_probe/vitt16_cifar10.py', cifar10)
    cfg.train_dataloader.batch_size = cfg.val_dataloader.batch_size = 20
    cfg.dump(tmp_path / 'config.json')
    run_ranks(train_as_one_of_two, tmp_path)
    states = [torch.load(tmp_path / f'{rank}.pth') for rank in range(2)]
    assert {'neck.1.bn.running_var', 'head.fc.weight', 'backbone.cls_token'} < set(states[0])
    assert [name for name, value in states[0].items() if not torch.equal(value, states[1][name])] == []
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=False)['state_dict']
    assert torch.equal(saved['neck.1.bn.running_mean'], states[1]['neck.1.bn.running_mean'])
    assert int(saved['neck.1.bn.num_batches_tracked']) == 2


def train_as_one_of_two(folder: Path) -> None:
    cfg = Config.fromfile(folder / 'config.json')
    cfg.update(launcher='pytorch', work_dir=str(folder / 'run'))
    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    runner.train()
    torch.save(runner.model.module.state_dict(), folder / f'{os.environ["RANK"]}.pth')


@pytest.mark.parametrize('name', [LINEAR[-1], FINETUNE[-1]])
def test_predictions_and_accuracy_agree_with_and_without_amp(name, tmp_path):
    cfg = shrink(name, tmp_path)
    DefaultScope.get_instance(f'amp-{name}', scope_name='mmpretrain')
    torch.manual_seed(0)
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.init_weights()
    torch.nn.init.normal_(model.head.fc.weight)
    model.eval()
    images = torch.randn(32, 3, *model.backbone.img_size)
    scores, accuracies = [], []
    for low in (False, True):
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16, enabled=low):
            samples = model.predict(images)
            scores.append(torch.stack([sample.pred_score for sample in samples]))
            # What full precision predicts is the truth for both.
            for sample, label in zip(samples, scores[0].argmax(1), strict=True):
                sample.set_gt_label(int(label))
            metric = METRICS.build(cfg.val_evaluator)
            metric.process({}, [sample.to_dict() for sample in samples])
            accuracies.append(metric.evaluate(len(images))['accuracy/top1'])
    full, low = scores
    assert {full.dtype, low.dtype} == {torch.float32}
    assert (low != low.bfloat16()).float().mean() > 0.5  # between the values that bfloat16 has
    assert 0 < (low - full).abs().max() < 0.1
    assert accuracies[0] == 100
    assert accuracies[1] > 85
