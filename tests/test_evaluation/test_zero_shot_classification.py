"""Zero-shot classification against a NumPy reference, with a stand-in text tower."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.evaluation import ZeroShotClassification, encode_classes, encode_texts


class BagOfWords(nn.Module):
    """Embeds a text as the normalized sum of its tokens' vectors."""

    def __init__(self, dim=8):
        super().__init__()
        self.words = nn.Embedding(49408, dim)
        nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))

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


def test_accuracies_equal_reference(model):
    names = ['cat', 'dog', 'car', 'tree', 'house', 'sea', 'sun']
    metric = ZeroShotClassification(names, ['a {}', 'the {}'])
    metric.prepare(model)
    random = np.random.default_rng(0)
    labels = random.choice(6, 40)  # The last class never occurs: it must not count as a class with accuracy 0.
    images = encode_classes(model, names, ['a {}']).numpy()[labels] + random.normal(size=(40, 8)) * 0.5
    images = images / np.linalg.norm(images, axis=1, keepdims=True)
    batch = [
        {'image_embed': torch.tensor(x, dtype=torch.float32), 'label': int(y)}
        for x, y in zip(images, labels, strict=True)
    ]
    metric.process(None, batch[:25])
    metric.process(None, [{**sample, 'label': torch.tensor(sample['label'])} for sample in batch[25:]])
    found = metric.evaluate(40)

    classes = [unit(np.mean([embed(model, f'{article} {name}') for article in ('a', 'the')], axis=0)) for name in names]
    order = np.argsort(-(images @ np.array(classes).T), axis=1)
    right = order[:, 0] == labels
    assert found == pytest.approx(
        {
            'classification/top1': 100 * right.mean(),
            'classification/top5': 100 * (order[:, :5] == labels[:, None]).any(1).mean(),
            'classification/mean_per_class': 100 * np.mean([right[labels == c].mean() for c in np.unique(labels)]),
        }
    )
    assert 0 < found['classification/top1'] < 100
    assert found['classification/mean_per_class'] != found['classification/top1']


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
