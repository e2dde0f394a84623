import math

import numpy as np
import pytest
import torch
from tiny_models import model as tiny_model
from tiny_models import random_batch

from mmmaskclip.models.objectives import TextPooledContrast
from mmmaskclip.models.objectives.text_pooled_contrast import text_pooled_similarity
from mmmaskclip.registry import MODELS


def reference(patches: np.ndarray, text: np.ndarray, sharpness: float) -> np.ndarray:
    similarity = np.empty((len(patches), len(text)))
    for i, image in enumerate(patches):
        for j, caption in enumerate(text):
            scores = np.exp(sharpness * image @ caption)
            pooled = (scores / scores.sum()) @ image
            similarity[i, j] = pooled @ caption / np.linalg.norm(pooled)
    return similarity


def softmax_loss(logits: np.ndarray) -> float:
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - np.diag(logits)))


@pytest.mark.parametrize('reduction', ['sum', 'mean'])
def test_loss_equals_numpy(reduction):
    draw = np.random.default_rng(0)
    patches, text = draw.normal(size=(3, 5, 4)), draw.normal(size=(3, 4))
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    similarity = reference(patches, text, sharpness=2.0)
    objective = TextPooledContrast(sharpness=2.0, reduction=reduction, init_temperature=0.1)
    loss = objective.compare({'patches': torch.tensor(patches), 'text': torch.tensor(text)})['loss']
    expected = softmax_loss(10 * similarity) + softmax_loss(10 * similarity.T)
    assert loss.item() == pytest.approx(expected * (1.0 if reduction == 'sum' else 0.5), rel=1e-5)


def test_a_caption_gathers_the_patches_it_speaks_of():
    patches = torch.tensor([[[9.0, 0.0], [0.0, 9.0], [0.0, 0.1]]])
    cosines = text_pooled_similarity(patches, torch.eye(2), sharpness=1.0)
    # Both captions fit the one image, though the mean of its patches is like neither.
    assert cosines.min() > 0.99
    flat = text_pooled_similarity(patches, torch.eye(2), sharpness=1e-6)
    assert flat.max() < 0.75


def test_patches_of_every_image_learn():
    model = MODELS.build(tiny_model(dict(local=dict(type='TextPooledContrast'))))
    model.init_weights()
    model(mode='loss', **model.data_preprocessor(random_batch(4)))['local_loss'].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]


def test_similarities_are_float32_in_bfloat16_training():
    with torch.autocast('cpu', torch.bfloat16):
        cosines = text_pooled_similarity(torch.randn(2, 3, 4).bfloat16(), torch.randn(2, 4).bfloat16(), 1.0)
    assert cosines.dtype == torch.float32


def test_temperature_is_clamped():
    objective = TextPooledContrast()
    assert objective.logged()['local_temperature'].item() == pytest.approx(0.07)
    objective.logit_scale.data.fill_(9.0)
    objective.after_optimizer_step()
    assert objective.logit_scale.item() == pytest.approx(math.log(100))


@pytest.mark.parametrize(('option', 'error'), [(dict(reduction='none'), 'reduction'), (dict(sharpness=0), 'sharpness')])
def test_mistakes_are_named(option, error):
    with pytest.raises(ValueError, match=error):
        TextPooledContrast(**option)
