"""Logistic regression: the optimum, CLIP's search of C, few-shot draws, the suites' metrics, wrong input."""

import numpy as np
import pytest
import torch
from datasets_of_images import Coloured, batch_of
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from mmmaskclip.evaluation import LogisticRegressionProbe, logistic_regression, logistic_regression_probe
from mmmaskclip.evaluation.frozen_features import pooled_features
from mmmaskclip.evaluation.logistic_regression import LogisticRegression
from mmmaskclip.evaluation.logistic_regression_probe import (
    FIXED_C,
    draw_shots,
    fit_logistic,
    search_regularization,
)
from mmmaskclip.evaluation.scores import average_precision_11, roc_auc
from mmmaskclip.registry import METRICS, MODELS


@pytest.fixture
def model(tiny_model_cfg):
    return MODELS.build(tiny_model_cfg()).eval()


@pytest.fixture(scope='module')
def clusters():
    """Features (60, 5) and labels in 4 clusters that overlap."""
    random = np.random.default_rng(0)
    labels = np.arange(60) % 4
    return random.normal(size=(4, 5))[labels] + random.normal(size=(60, 5)), labels


def probe(dataset, **options):
    return LogisticRegressionProbe(dict(dataset=dataset, batch_size=16), **options)


def run(metric, model, dataset):
    metric.prepare(model)
    batch = batch_of(dataset)
    middle = len(dataset) // 2
    for rows in (slice(0, middle), slice(middle, None)):
        metric.process({name: values[rows] for name, values in batch.items()}, None)
    return metric.evaluate(len(dataset))


def fit(features, labels, *options):
    """``fit_logistic`` with arrays of NumPy."""
    c, head = fit_logistic(torch.from_numpy(features), torch.from_numpy(labels), *options)
    return c, head.numpy()


def penalty_gradient(features, labels, head, c):
    """Gradient of c * sum of the cross entropies + half the squared weights, (K, C + 1); the bias is not penalized."""
    logits = features @ head[:, :-1].T + head[:, -1]
    logits -= logits.max(1, keepdims=True)
    wrong = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(len(head))[labels]
    return c * wrong.T @ np.column_stack((features, np.ones(len(features)))) + np.pad(head[:, :-1], ((0, 0), (0, 1)))


def test_finds_the_optimum(clusters):
    c, head = fit(*clusters, 4, 0.2, 1000)
    assert np.abs(penalty_gradient(*clusters, head, c)).max() < 1e-2 * c
    assert np.abs(penalty_gradient(*clusters, 1.1 * head, c)).max() > 5e-2 * c


def test_searches_as_clip_does():
    asked = []

    def score(c):
        asked.append(np.log10(c))
        return -abs(np.log10(c) - 1.4)

    assert search_regularization(score) == pytest.approx(10**1.375)
    assert asked == pytest.approx([-6, -4, -2, 0, 2, 4, 6, 1, 3, 0.5, 1.5, 1.25, 1.75, 1.375, 1.625])
    assert search_regularization(lambda c: c) == 1e6  # never beyond the ends
    assert search_regularization(lambda c: 0.0) == 1e-6  # of equal ones the strongest penalty


@pytest.mark.parametrize('num_classes', [2, 4])
@pytest.mark.parametrize('c', [1e-3, 1.0, 100.0])
def test_equals_scikit_learn(clusters, num_classes, c):
    features, labels = clusters
    labels = labels % num_classes
    fitted = SklearnLogisticRegression(C=c, max_iter=1000).fit(features, labels)
    rows = LogisticRegression(torch.from_numpy(features), torch.from_numpy(labels), num_classes).fit(c, 1000).numpy()
    np.testing.assert_allclose(rows[:, :-1], fitted.coef_, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(rows[:, -1], fitted.intercept_, rtol=1e-6, atol=1e-8)


def test_blocks_of_rows_change_nothing(clusters, monkeypatch):
    features, labels = map(torch.from_numpy, clusters)
    whole = LogisticRegression(features, labels, 4).fit(1.0, 1000)
    monkeypatch.setattr(logistic_regression, '_BLOCK', 7)
    torch.testing.assert_close(LogisticRegression(features, labels, 4).fit(1.0, 1000), whole, rtol=1e-9, atol=1e-12)


def test_fits_all_samples_with_what_was_best_on_those_held_out(clusters, monkeypatch):
    sizes = []

    class Fitted:
        def __init__(self, features, labels, num_classes):
            self.labels = labels

        def fit(self, c, max_iter):
            assert max_iter == 7
            sizes.append(self.labels.bincount().tolist())
            return torch.zeros(4, 6, dtype=torch.float64)

    monkeypatch.setattr(logistic_regression_probe, 'LogisticRegression', Fitted)
    fit(*clusters, 4, 0.2, 7)
    assert sizes[-1] == [15] * 4
    assert set(map(tuple, sizes[:-1])) == {(12,) * 4}


def test_one_shot_has_nothing_to_search_on(clusters):
    features, labels = clusters
    assert fit(features[:4], labels[:4], 4, 0.2, 100)[0] == FIXED_C
    assert fit(features[:8], labels[:8], 4, 0.2, 100)[0] != FIXED_C


def test_two_classes_and_classes_that_do_not_occur(clusters):
    features, labels = clusters
    two = np.isin(labels, (1, 3))
    _, head = fit(features[two], labels[two], 5, 0.2, 1000)
    logits = features[two] @ head[:, :-1].T + head[:, -1]
    assert np.isneginf(logits[:, [0, 2, 4]]).all()
    assert (logits.argmax(1) == labels[two]).mean() > 0.8


def test_draws_are_nested_and_of_every_class():
    labels = np.repeat([3, 0, 2], [20, 6, 30])
    five, twenty = draw_shots(labels, 5, 1), draw_shots(labels, 20, 1)
    assert np.bincount(labels[five]).tolist() == [5, 0, 5, 5]
    assert np.bincount(labels[twenty]).tolist() == [6, 0, 20, 20]
    assert set(five) < set(twenty)
    assert set(five) == set(draw_shots(labels, 5, 1)) != set(draw_shots(labels, 5, 2))


def test_all_images(model):
    metric = METRICS.build(
        dict(type='LogisticRegressionProbe', train_dataloader=dict(dataset=Coloured(42), batch_size=16))
    )
    found = run(metric, model, Coloured(21, seed=1))
    assert set(found) == {f'logistic/{name}' for name in ('top1', 'top5', 'mean_per_class', 'score')}
    assert 3 * 100 / 7 < found['logistic/top1'] == found['logistic/score']
    # From its own definition.
    train, test = (pooled_features(model, batch_of(dataset)) for dataset in (Coloured(42), Coloured(21, seed=1)))
    _, head = fit(train.double().numpy(), np.arange(42) % 7, 7, 0.2, 1000)
    logits = test.double().numpy() @ head[:, :-1].T + head[:, -1]
    assert found['logistic/top1'] == pytest.approx(100 * (logits.argmax(1) == np.arange(21) % 7).mean())


def test_few_shot_reports_mean_and_deviation(model):
    train, test = Coloured(42), Coloured(63, seed=1)
    both = run(probe(train, shots=[1, 4], seeds=[0, 5], prefix='few_shot'), model, test)
    single = [run(probe(train, shots=4, seeds=[seed], prefix='few_shot'), model, test) for seed in (0, 5)]
    assert 'few_shot/score' not in both
    assert set(single[0]) == {f'few_shot/4_shot/{name}' for name in ('top1', 'top5', 'mean_per_class', 'score')} | {
        'few_shot/score'
    }
    values = [result['few_shot/score'] for result in single]
    assert both['few_shot/4_shot/top1'] == pytest.approx(np.mean(values))
    assert both['few_shot/4_shot/top1_std'] == pytest.approx(np.std(values, ddof=1)) != 0
    assert both['few_shot/1_shot/top1'] < both['few_shot/4_shot/top1']


def test_roc_auc_and_several_classes_per_image(model):
    train, test = Coloured(40, num_classes=2), Coloured(20, num_classes=2, seed=1)
    metric = probe(train, metric='roc_auc')
    metric.prepare(model)
    head = metric.heads[0]
    metric.process(batch_of(test), None)
    margin = pooled_features(model, batch_of(test)) @ (head[1] - head[0])[:-1]
    assert metric.evaluate(20)['logistic/score'] == pytest.approx(100 * roc_auc(margin.numpy(), np.arange(20) % 2))

    def several(label):
        return torch.tensor([label in (0, 1), label in (1, 2), True, False]).long()

    train, test = Coloured(42, label=several), Coloured(21, seed=1, label=several)
    metric = probe(train, metric='map11')
    metric.prepare(model)
    logits = (pooled_features(model, batch_of(test)) @ metric.heads[0][:, :-1].T + metric.heads[0][:, -1]).numpy()
    metric.process(batch_of(test), None)
    labels = batch_of(test)['label'].numpy()
    expected = np.mean([average_precision_11(logits[:, k], labels[:, k]) for k in (0, 1, 2)])
    assert metric.evaluate(21) == pytest.approx({'logistic/map11': 100 * expected, 'logistic/score': 100 * expected})
    assert expected > 0.7


def test_errors_name_what_is_wrong(model):
    with pytest.raises(ValueError, match='at least 1 shot'):
        probe(Coloured(4), shots=[0])
    with pytest.raises(ValueError, match='and one seed'):
        probe(Coloured(4), shots=5, seeds=[])
    with pytest.raises(ValueError, match='leave shots out'):
        probe(Coloured(4), shots=5, metric='map11')
    with pytest.raises(ValueError, match='held_out=1 must be'):
        probe(Coloured(4), held_out=1)
    with pytest.raises(ValueError, match=r"metric='map11' needs 0 or 1 for each class per image, got .* shape \(\)"):
        probe(Coloured(4), metric='map11').prepare(model)
    with pytest.raises(RuntimeError, match='LogisticRegressionProbe.prepare'):
        probe(Coloured(4)).process(batch_of(Coloured(4)), None)
