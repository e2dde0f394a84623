"""Linear probe on cached features: the paper's recipe, the same training as mmpretrain's Runner, wrong input."""

from functools import partial

import pytest
import torch
from datasets_of_images import Coloured, batch_of
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from paths import CONFIGS
from torch.utils.data import Dataset

from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.evaluation import LinearClassificationProbe
from mmmaskclip.evaluation.frozen_features import pooled_features
from mmmaskclip.registry import METRICS, MODELS

coloured = partial(Coloured, spread=60)


class OfMmpretrain(Dataset):
    """The same samples as mmpretrain's Runner takes them."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        sample = self.dataset[index]
        return {'inputs': sample['image'], 'data_samples': DataSample().set_gt_label(sample['label'])}


@pytest.fixture
def model(tiny_model_cfg):
    return MODELS.build(tiny_model_cfg()).eval()


def probe(dataset, **options):
    return LinearClassificationProbe(dict(dataset=dataset, batch_size=8), **options)


def test_defaults_are_the_published_recipe():
    recipe = probe(coloured(8)).recipe
    assert recipe == dict(epochs=90, warmup_epochs=10, batch_size=16384, lr=6.4, momentum=0.9)
    config = Config.fromfile(CONFIGS / 'probes/imagenet_linear.py').test_evaluator.imagenet
    assert METRICS.build({**config, 'train_dataloader': {}}).recipe == recipe


def test_same_weights_as_mmpretrains_runner(model, tiny_model_cfg, tmp_path, monkeypatch):
    # Without augmentation, in the same order, from the same weights; an epoch's last three images fill no batch.
    dataset = coloured(27)
    metric = probe(dataset, epochs=6, warmup_epochs=2, batch_size=8)
    starts = []
    start = torch.nn.init.trunc_normal_
    monkeypatch.setattr(
        torch.nn.init, 'trunc_normal_', lambda weight, **kwargs: starts.append(start(weight, **kwargs).clone())
    )
    metric.prepare(model)

    register_all_modules()
    cfg = Config.fromfile(CONFIGS / 'linear_probe/vitb16_in1k.py')
    cfg.model.backbone = dict(**tiny_model_cfg()['image_encoder'], frozen_stages=2, out_type='featmap')
    cfg.model.neck[1].input_features = cfg.model.head.in_channels = 32
    cfg.model.head.num_classes = 7
    cfg.model.data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3)
    classifier = MODELS.build(dict(**cfg.model))
    classifier.init_weights()
    classifier.backbone.load_state_dict(model.image_encoder.state_dict())
    with torch.no_grad():
        classifier.head.fc.weight.copy_(starts[0])
    warm_up, cosine = cfg.param_scheduler
    warm_up.end = cosine.begin = 2
    cosine.update(end=6, T_max=4)
    runner = Runner(
        model=classifier,
        work_dir=str(tmp_path),
        default_scope='mmpretrain',
        randomness=dict(seed=0),
        train_dataloader=dict(
            dataset=OfMmpretrain(dataset),
            batch_size=8,
            drop_last=True,
            sampler=dict(type='DefaultSampler', shuffle=True),
        ),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        train_cfg=dict(by_epoch=True, max_epochs=6),
    )
    runner.train()

    norm, linear = classifier.neck[1].bn, classifier.head.fc
    weight = linear.weight * (norm.running_var + norm.eps).rsqrt()
    expected = torch.cat((weight, (linear.bias - weight @ norm.running_mean)[:, None]), dim=1)
    torch.testing.assert_close(metric.heads[0], expected.detach(), rtol=1e-4, atol=1e-5)
    assert (linear.weight - starts[0]).abs().max() > 100 * 3e-5  # It has learned.
    # The frozen tower and its test mode.
    tower = dict(model.image_encoder.named_parameters())
    assert all(torch.equal(value, tower[name]) for name, value in classifier.backbone.named_parameters())
    classifier.eval()
    with torch.no_grad():
        images = classifier.data_preprocessor({'inputs': batch_of(dataset)['image']})['inputs']
        logits = classifier(images)
    features = pooled_features(model, batch_of(dataset))
    found = features @ metric.heads[0][:, :-1].T + metric.heads[0][:, -1]
    torch.testing.assert_close(found, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('pool', ['mean', 'cls'])
def test_learns_the_colours_and_counts_as_argmax_does(model, pool):
    test = coloured(21, seed=1)
    metric = METRICS.build(
        dict(
            type='LinearClassificationProbe',
            train_dataloader=dict(dataset=coloured(42), batch_size=16),
            pool=pool,
            batch_size=14,
            epochs=40,
        )
    )
    metric.prepare(model)
    head = metric.heads[0]
    batch = batch_of(test)
    for rows in (slice(0, 13), slice(13, 21)):
        metric.process({name: values[rows] for name, values in batch.items()}, None)
    logits = pooled_features(model, batch, pool) @ head[:, :-1].T + head[:, -1]
    right = 100 * (logits.argmax(1) == batch['label']).double().mean()
    found = metric.evaluate(21)
    assert set(found) == {f'linear/{name}' for name in ('top1', 'top5', 'mean_per_class', 'score')}
    assert found['linear/top1'] == found['linear/score'] == pytest.approx(float(right))
    assert found['linear/top1'] > 3 * 100 / 7
    assert metric.heads is metric.model is None


def test_top5_counts_the_first_five(model):
    metric = probe(coloured(22, num_classes=11), epochs=1, warmup_epochs=0)
    metric.prepare(model)
    head, batch = metric.heads[0], batch_of(coloured(33, num_classes=11, seed=1))
    metric.process(batch, None)
    logits = pooled_features(model, batch) @ head[:, :-1].T + head[:, -1]
    right = (logits.topk(5).indices == batch['label'][:, None]).any(1).double().mean()
    assert metric.evaluate(33)['linear/top5'] == pytest.approx(100 * float(right)) != 100


def test_pools_differ(model):
    batch = batch_of(coloured(2))
    assert torch.equal(pooled_features(model, batch), pooled_features(model, batch, 'mean'))
    assert not torch.equal(pooled_features(model, batch, 'cls'), pooled_features(model, batch, 'mean'))


def test_errors_name_what_is_wrong(model):
    metric = probe(coloured(12, num_classes=3), epochs=1, warmup_epochs=0)
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(batch_of(coloured(2)), None)
    metric.prepare(model)
    with pytest.raises(ValueError, match="sample 'image 3' has label 3, but the training split has the classes 0 to 2"):
        metric.process(batch_of(coloured(5)), None)
    smaller = batch_of(coloured(2)) | {'image': torch.zeros(2, 3, 24, 32, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"are \(24, 32\), those of the probe's train_dataloader \(32, 32\)"):
        metric.process(smaller, None)
    with pytest.raises(ValueError, match=r"\['image'\]: set its label_key"):
        metric.process({'image': batch_of(coloured(2))['image']}, None)
    several = coloured(12, label=lambda label: torch.zeros(20, dtype=torch.long))
    with pytest.raises(ValueError, match=r"labels of shape \(20,\): 'map11' is for several classes"):
        probe(several).prepare(model)
    with pytest.raises(ValueError, match='use LogisticRegressionProbe'):
        probe(coloured(12), metric='map11')
    with pytest.raises(ValueError, match='warmup_epochs=3 of epochs=3'):
        probe(coloured(12), epochs=3, warmup_epochs=3)
    with pytest.raises(ValueError, match="pool='max'"):
        probe(coloured(12), pool='max')
    with pytest.raises(ValueError, match="'roc_auc' is for 2 classes"):
        probe(coloured(12), metric='roc_auc', epochs=1, warmup_epochs=0).prepare(model)
    with pytest.raises(ValueError, match='has no sampler'):
        LinearClassificationProbe(dict(dataset=coloured(4), sampler=dict(type='DefaultSampler'))).prepare(model)


def test_nan_is_not_the_best_answer(model):
    metric = probe(coloured(12), epochs=1, warmup_epochs=0)
    metric.prepare(model)
    torch.nn.init.constant_(model.image_encoder.ln1.weight, torch.nan)
    with pytest.raises(ValueError, match="the model output for sample 'image 0' is not finite"):
        metric.process(batch_of(coloured(2)), None)
