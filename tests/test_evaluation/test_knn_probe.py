"""k-NN probe against a NumPy reference that sorts all similarities, and on features that can be known."""

from functools import partial

import numpy as np
import pytest
import torch
from datasets_of_images import Coloured, batch_of

from mmmaskclip.evaluation import KNNClassification
from mmmaskclip.evaluation.frozen_features import pooled_features
from mmmaskclip.evaluation.knn_probe import knn_votes
from mmmaskclip.registry import METRICS, MODELS

coloured = partial(Coloured, cells=1)


@pytest.fixture
def model(tiny_model_cfg):
    return MODELS.build(tiny_model_cfg()).eval()


def reference_votes(features, train_features, train_labels, k, temperature):
    scores = (features.astype(np.float64) @ train_features.astype(np.float64).T).astype(np.float32)
    votes = np.zeros((len(features), train_labels.max() + 1))
    for row, score in enumerate(scores):
        for neighbour in np.argsort(-score, kind='stable')[:k]:
            votes[row, train_labels[neighbour]] += np.exp(score[neighbour].astype(np.float64) / temperature)
    return votes / np.exp(scores.max(1, keepdims=True).astype(np.float64) / temperature)


@pytest.mark.parametrize('block', [3, 1000])
def test_votes_equal_reference_with_ties(block):
    random = np.random.default_rng(0)
    train = random.normal(size=(40, 5)).astype(np.float32)
    train[5:25] = train[5]  # More equal neighbours than places, of several classes.
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    features, labels = np.concatenate([train[3:9], random.normal(size=(6, 5)).astype(np.float32)]), np.arange(40) % 6
    given = map(torch.from_numpy, (features, train, labels))
    votes = knn_votes(*given, k=4, temperature=0.2, block=block)
    assert votes.numpy() == pytest.approx(reference_votes(features, train, labels, 4, 0.2), rel=1e-5)
    # Of the twenty equal ones, the first four.
    assert votes[2].nonzero().flatten().tolist() == [0, 1, 2, 5]


def test_metric_equals_reference_on_the_models_features(model):
    train, test = coloured(45), coloured(20, seed=1)
    metric = METRICS.build(
        dict(type='KNNClassification', train_dataloader=dict(dataset=train, batch_size=8), k=5, temperature=0.1)
    )
    metric.prepare(model)
    batch = batch_of(test)
    for rows in (slice(0, 13), slice(13, 20)):
        metric.process({name: values[rows] for name, values in batch.items()}, None)
    found = metric.evaluate(20)

    features = []
    for dataset in (test, train):
        with torch.no_grad():
            images = model.data_preprocessor(batch_of(dataset))['image']
            tokens = model.image_encoder.features(images).patches.mean(1).numpy()
        features.append(tokens / np.linalg.norm(tokens, axis=1, keepdims=True))
    order = np.argsort(-reference_votes(*features, np.arange(45) % 7, 5, 0.1), axis=1, kind='stable')
    truth = (np.arange(20) % 7)[:, None]
    assert found == pytest.approx(
        {'knn/top1': 100 * (order[:, :1] == truth).mean(), 'knn/top5': 100 * (order[:, :5] == truth).any(1).mean()}
    )
    assert 100 / 7 < found['knn/top1'] < found['knn/top5']


def test_features_are_pooled_as_the_model_pools(tiny_model_cfg):
    cfg, batch = tiny_model_cfg(), batch_of(coloured(3))
    cfg['image_projection']['pool'] = 'cls'
    model = MODELS.build(cfg).eval()
    expected = model.image_encoder.features(model.data_preprocessor(batch)['image'])
    torch.testing.assert_close(pooled_features(model, batch), expected.cls)
    model.image_projection = None
    torch.testing.assert_close(pooled_features(model, batch), expected.patches.mean(1))


def test_train_features_follow_the_model_and_are_released(model):
    metric = KNNClassification(dict(dataset=coloured(12), batch_size=4), k=1)
    metric.prepare(model)
    before = metric.train_features
    torch.nn.init.normal_(model.image_encoder.cls_token)
    metric.prepare(model)
    assert not torch.equal(metric.train_features, before)
    metric.process(batch_of(coloured(12)), None)
    assert metric.evaluate(12)['knn/top1'] == 100  # The nearest training image is the image itself.
    assert metric.train_features is None


def test_errors_name_what_is_wrong(model):
    metric = KNNClassification(dict(dataset=coloured(12, num_classes=3), batch_size=4), k=2)
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(batch_of(coloured(2)), None)
    metric.prepare(model)
    with pytest.raises(ValueError, match="sample 'image 3' has label 3, but the training split has the classes 0 to 2"):
        metric.process(batch_of(coloured(5)), None)
    smaller = batch_of(coloured(2)) | {'image': torch.zeros(2, 3, 24, 32, dtype=torch.uint8)}
    with pytest.raises(ValueError, match=r"are \(24, 32\), those of the probe's train_dataloader \(32, 32\)"):
        metric.process(smaller, None)
    with pytest.raises(ValueError, match='k=20 neighbours of 12 training samples'):
        KNNClassification(dict(dataset=coloured(12), batch_size=4)).prepare(model)
    several = coloured(12, label=lambda label: torch.zeros(20))
    with pytest.raises(ValueError, match=r'labels of shape \(20,\)'):
        KNNClassification(dict(dataset=several, batch_size=4), k=2).prepare(model)
    with pytest.raises(ValueError, match='has no sampler'):
        KNNClassification(dict(dataset=several, sampler=dict(type='DefaultSampler')), k=2).prepare(model)
    with pytest.raises(ValueError, match=r"\['image'\]: set its label_key"):
        metric.process({'image': batch_of(coloured(2))['image']}, None)


def test_nan_is_not_the_best_answer(model):
    metric = KNNClassification(dict(dataset=coloured(12), batch_size=4), k=2)
    metric.prepare(model)
    torch.nn.init.constant_(model.image_encoder.ln1.weight, torch.nan)
    with pytest.raises(ValueError, match="the model output for sample 'image 0' is not finite"):
        metric.process(batch_of(coloured(2)), None)
