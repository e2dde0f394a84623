"""Zero-shot classification against NumPy, scikit-learn and CLIP_benchmark, with a stand-in text tower."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_classification as clip_benchmark
from sklearn.metrics import precision_recall_curve, roc_auc_score
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, TensorDataset

from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.evaluation import ZeroShotClassification
from mmmaskclip.evaluation.scores import average_precision_11, roc_auc
from mmmaskclip.models.open_vocabulary import encode_classes, encode_texts


class BagOfWords(nn.Module):
    """Embeds a text as the normalized sum of its tokens' vectors."""

    def __init__(self, dim=8):
        super().__init__()
        self.words = nn.Embedding(49408, dim)
        nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))

    tokenize = staticmethod(tokenize)

    def encode_text(self, tokens):
        return F.normalize((self.words(tokens.long()) * (tokens != 0).unsqueeze(-1)).sum(1), dim=-1)


@pytest.fixture(scope='module')
def model():
    return BagOfWords()


def embed(model, text):
    with torch.no_grad():
        return model.encode_text(torch.stack(tokenize([text])))[0].double().numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


def test_class_embedding_is_normalized_mean_over_templates_and_synonyms(model):
    found = encode_classes(model, ['cat', ['dog', 'hound']], ['a {}', 'the big {}.'], batch_size=3)
    prompts = [['a cat', 'the big cat.'], ['a dog', 'a hound', 'the big dog.', 'the big hound.']]
    expected = [unit(np.mean([embed(model, prompt) for prompt in group], axis=0)) for group in prompts]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)
    assert not found.requires_grad


def test_texts_are_encoded_in_batches(model):
    texts = ['a', 'a much longer text than the others', 'b c']
    np.testing.assert_allclose(
        encode_texts(model, texts, batch_size=2).numpy(), [embed(model, text) for text in texts], atol=1e-6
    )


@pytest.mark.parametrize(('classes', 'templates'), [([], ['a {}']), (['cat'], [])])
def test_nothing_to_encode_is_an_error(model, classes, templates):
    with pytest.raises(ValueError, match='needs classes and templates'):
        encode_classes(model, classes, templates)


NAMES = ['cat', 'dog', 'car', 'tree', 'house', 'sea', 'sun']


def evaluate(model, metric, labels, seed=0):
    """The metrics of noisy images of the labels' classes, found in two batches, and their cosines with the classes."""
    metric.prepare(model)
    random = np.random.default_rng(seed)
    images = metric.class_embeds.numpy()[labels] + random.normal(size=(len(labels), 8)) * 0.5
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    batch = [{'image_embed': torch.tensor(x), 'label': int(y)} for x, y in zip(images, labels, strict=True)]
    metric.process(None, batch[:25])
    metric.process(None, [{**sample, 'label': torch.tensor(sample['label'])} for sample in batch[25:]])
    found = metric.evaluate(len(labels))
    scores = images.astype(np.float64) @ metric.class_embeds.double().numpy().T
    return {name.removeprefix('classification/'): value for name, value in found.items()}, scores


@pytest.mark.parametrize('metric', ['top1', 'mean_per_class', 'mean_top1_top5'])
def test_accuracies_equal_reference(model, metric):
    labels = np.random.default_rng(0).choice(6, 40)  # The last class never occurs: its accuracy is not 0 but nothing.
    found, scores = evaluate(model, ZeroShotClassification(NAMES, ['a {}', 'the {}'], metric), labels)
    order = np.argsort(-scores, axis=1)
    right = order[:, 0] == labels
    expected = {
        'top1': 100 * right.mean(),
        'top5': 100 * (order[:, :5] == labels[:, None]).any(1).mean(),
        'mean_per_class': 100 * np.mean([right[labels == c].mean() for c in np.unique(labels)]),
    }
    halfway = (expected['top1'] + expected['top5']) / 2
    assert found == pytest.approx({**expected, 'score': {**expected, 'mean_top1_top5': halfway}[metric]})
    assert len({0, 100, *expected.values(), halfway}) == 6


@pytest.mark.parametrize('template', ['a photo', '{} {}', 'a {x}', 'a {} {x}'])
def test_templates_take_the_name_in_one_place(model, template):
    for build in (lambda: ZeroShotClassification(NAMES, [template]), lambda: encode_classes(model, NAMES, [template])):
        with pytest.raises(ValueError, match='needs exactly one {} where the class name goes'):
            build()
    with pytest.raises(ValueError, match='templates are empty; name a prompt file or give a list'):
        ZeroShotClassification(NAMES, [])


def test_classes_are_those_of_the_data_set():
    metric = ZeroShotClassification(NAMES, ['a {}'])
    metric.dataset_meta = {'classes': ('cat', 'dog')}
    with pytest.raises(
        ValueError, match=r'data set has 2 classes \(cat, dog, \.\.\.\), this metric has 7 \(cat, dog, car'
    ):
        metric.check_data(None)
    metric.dataset_meta = {'classes': (*NAMES[:5], 'sun', 'sea')}
    with pytest.raises(ValueError, match="class 5 is 'sun' in the data set and 'sea' in this metric"):
        metric.check_data(None)
    # Other names for the same classes are common.
    metric.dataset_meta = {'classes': tuple('abcdefg')}
    metric.check_data(None)


def test_nan_is_not_the_best_answer(model):
    metric = ZeroShotClassification(NAMES, ['a {}'])
    metric.prepare(model)
    image = metric.class_embeds[0]
    good, bad = ({'image_embed': x, 'label': 0, 'key': key} for x, key in ((image, 'a'), (image / 0 * 0, 'b')))
    with pytest.raises(ValueError, match=r"sample 'b' is not finite \(1 of 2 samples"):
        metric.process(None, [good, bad])


def test_the_whole_evaluation_equals_clip_benchmarks(model, monkeypatch):
    labels, templates = np.random.default_rng(0).choice(7, 60), ['a {}', 'the {}']
    metric = ZeroShotClassification(NAMES, templates)
    found, _ = evaluate(model, metric, labels)

    class Model:
        encode_image = staticmethod(lambda images: images)
        encode_text = model.encode_text

    # What `evaluate` embeds them as; its seed is 0.
    images = metric.class_embeds.numpy()[labels] + np.random.default_rng(0).normal(size=(60, 8)) * 0.5
    data = TensorDataset(torch.tensor(images, dtype=torch.float32), torch.tensor(labels))
    data.classes = NAMES
    # Its float() of an array with one element stops at NumPy 2.4.
    monkeypatch.setattr(clip_benchmark, 'float', lambda value: np.asarray(value).item(), raising=False)
    theirs = [template.replace('{}', '{c}') for template in templates]
    expected = clip_benchmark.evaluate(
        Model, DataLoader(data, 25), lambda texts: pad_sequence(tokenize(texts), True), NAMES, theirs, 'cpu', amp=False
    )
    names = {'acc1': 'top1', 'acc5': 'top5', 'mean_per_class_recall': 'mean_per_class'}
    assert {names[name]: 100 * value for name, value in expected.items()} == pytest.approx(
        {name: value for name, value in found.items() if name != 'score'}
    )
    assert len({*expected.values()}) == 3


def test_roc_auc_is_the_share_of_pairs_in_order(model):
    labels = np.random.default_rng(1).choice(2, 50)
    found, scores = evaluate(model, ZeroShotClassification(NAMES[:2], ['a {}'], 'roc_auc'), labels)
    margin = (scores[:, 1] - scores[:, 0]).astype(np.float32)
    pairs = [np.sign(p - n) / 2 + 0.5 for p in margin[labels == 1] for n in margin[labels == 0]]
    assert found['roc_auc'] == found['score'] == pytest.approx(100 * np.mean(pairs))
    assert found['roc_auc'] not in (0, 100, found['top1'])
    # A tie is half a pair.
    assert roc_auc(np.array([1.0, 1.0, 2.0, 0.0]), np.array([1, 0, 1, 0])) == (0.5 + 1 + 1 + 1) / 4
    with pytest.raises(ValueError, match='both kinds; got 2 positive and 0 negative'):
        roc_auc(np.ones(2), np.ones(2))


def test_average_precision_equals_vision_evaluations():
    # The example and its result in microsoft/vision-evaluation, test/test_evaluators.py (MIT).
    first = np.array([1, 0, 0.5, 0.1, 0.44, 0.09, 0.91, 0.37, 0.34, 0.89])
    positive = np.array([1, 0, 0, 0, 1, 1, 0, 0, 0, 1])
    both = (average_precision_11(first, positive), average_precision_11(1 - first, 1 - positive))
    assert np.mean(both) == pytest.approx(0.7406926406926406, abs=1e-12)
    # A recall of exactly 7 / 10 counts at 0.7; after it the best precision is 10 / 40.
    hits = np.repeat([1, 0, 1], [7, 30, 3])
    assert average_precision_11(np.arange(40, 0, -1), hits) == pytest.approx((8 * 1 + 3 * 0.25) / 11)


def test_auc_and_average_precision_equal_scikit_learn():
    random = np.random.default_rng(0)
    for decimals in (1, 8):  # with ties and without
        scores, positive = random.normal(size=200).round(decimals), random.choice(2, 200, p=[0.7, 0.3])
        assert roc_auc(scores, positive) == pytest.approx(roc_auc_score(positive, scores))
        precision, recall, _ = precision_recall_curve(positive, scores)
        expected = np.mean([precision[recall >= bound].max() for bound in np.linspace(1, 0, 11)])
        assert average_precision_11(scores, positive) == pytest.approx(expected)


def test_map11_ranks_probabilities_among_the_classes(model):
    random = np.random.default_rng(0)
    metric = ZeroShotClassification(NAMES, ['a {}'], 'map11')
    metric.prepare(model)
    labels = random.choice(2, (30, 7), p=[0.6, 0.4])
    labels[:, 6] = 0  # No sample is of this class: it has no precision.
    images = labels @ metric.class_embeds.double().numpy() + random.normal(size=(30, 8)) * 0.7
    images = (images / np.linalg.norm(images, axis=1, keepdims=True)).astype(np.float32)
    for part in (slice(0, 20), slice(20, 30)):
        metric.process(
            None,
            [
                {'image_embed': torch.tensor(x), 'label': torch.tensor(y)}
                for x, y in zip(images[part], labels[part], strict=True)
            ],
        )
    found = metric.evaluate(30)
    cosines = images.astype(np.float64) @ metric.class_embeds.double().numpy().T
    odds = np.exp(100 * cosines)
    expected = {}
    for name, scores in (('probabilities', odds / odds.sum(1, keepdims=True)), ('cosines', cosines)):
        points = []
        for c in range(6):
            hits = labels[np.argsort(-scores[:, c]), c].cumsum()
            recall, precision = hits * 10 // hits[-1], hits / np.arange(1, 31)
            points.append([1] + [precision[recall >= tenth].max() for tenth in range(1, 11)])
        expected[name] = 100 * np.mean(points)
    assert found['classification/map11'] == found['classification/score'] == pytest.approx(expected['probabilities'])
    assert expected['probabilities'] != pytest.approx(expected['cosines'])


@pytest.mark.parametrize(
    ('metric', 'classes', 'message'),
    [
        ('top3', 'scenes', "metric='top3': choose one of top1, mean_per_class, mean_top1_top5, roc_auc, map11"),
        ('roc_auc', 'scenes', "'scenes' has 40: choose 'top1'"),
        ('mean_top1_top5', ['a', 'b'], "has 2: choose 'top1'"),
    ],
)
def test_metric_must_go_with_the_classes(metric, classes, message):
    with pytest.raises(ValueError, match=message):
        ZeroShotClassification(classes, ['a {}'], metric)


@pytest.mark.parametrize(
    ('metric', 'label', 'message'),
    [
        ('map11', 1, r"'x/1' has a label of shape \(\), but metric='map11' with 2 classes needs 0 or 1 for each class"),
        ('map11', torch.tensor([1, 0, 0]), r'of shape \(3,\)'),
        ('map11', torch.tensor([1, -1]), r"'x/1' has label \[1, -1\], but only 0 and 1 mean"),
        ('top1', torch.tensor([1, 0]), "metric='top1' with 2 classes needs the index of one class"),
    ],
)
def test_label_of_the_wrong_form_is_named(model, metric, label, message):
    metric = ZeroShotClassification(['cat', 'dog'], ['a {}'], metric)
    metric.prepare(model)
    with pytest.raises(ValueError, match=message):
        metric.process(None, [{'image_embed': torch.ones(8), 'label': label, 'key': 'x/1'}])


def test_multi_label_samples_without_any_class_are_an_error(model):
    metric = ZeroShotClassification(['cat', 'dog'], ['a {}'], 'map11')
    with pytest.raises(ValueError, match='none of the 3 samples has a class'):
        metric.compute_metrics([(np.zeros(2), np.zeros(2))] * 3)


def test_classes_with_one_embedding_tie_to_the_lower_index(model):
    metric = ZeroShotClassification(['cat', 'cat', 'cat'], ['a {}'])
    metric.prepare(model)
    image = torch.tensor(embed(model, 'a cat'), dtype=torch.float32)
    metric.process(None, [{'image_embed': image, 'label': label} for label in range(3)])
    assert metric.results == [(0, 0), (1, 1), (2, 2)]
    assert 'top5' not in metric.compute_metrics(metric.results)


def test_label_outside_the_class_list_is_named(model):
    metric = ZeroShotClassification(['cat', 'dog'], ['a {}'])
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(None, [])
    metric.prepare(model)
    with pytest.raises(ValueError, match="'x/1' has label 2, but there are 2 classes"):
        metric.process(None, [{'image_embed': torch.ones(8), 'label': 2, 'key': 'x/1'}])


def test_classes_and_templates_by_file_name(tmp_path):
    metric = ZeroShotClassification('scenes')
    assert (len(metric.prompts.classes), len(metric.prompts.templates)) == (40, 4)
    assert len(ZeroShotClassification('scenes', 'imagenet_7').prompts.templates) == 7
    with pytest.raises(ValueError, match="'imagenet_7' has no classes"):
        ZeroShotClassification('imagenet_7')
    with pytest.raises(ValueError, match='templates are missing'):
        ZeroShotClassification(['cat'])
