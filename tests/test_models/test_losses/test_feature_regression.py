import numpy as np
import pytest
import torch

from mmmaskclip.models.losses import FeatureRegressionLoss


def _smooth_l1(prediction, target, beta):
    distance = np.abs(prediction - target)
    return np.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta).mean()


def test_against_numpy_on_both_sides_of_the_knee():
    prediction, target = 3 * torch.randn(2, 5, 8), 3 * torch.randn(2, 5, 8)
    expected = _smooth_l1(prediction.double().numpy(), target.double().numpy(), 2.0)
    assert FeatureRegressionLoss()(prediction, target).item() == pytest.approx(expected, rel=1e-6)


def test_layer_norm_of_both():
    prediction, target = torch.randn(2, 5, 8), torch.randn(2, 5, 8)

    def normalize(x):
        x = x.double().numpy()
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)

    loss = FeatureRegressionLoss(target_norm='ln')
    expected = _smooth_l1(normalize(prediction), normalize(target), 2.0)
    assert loss(prediction, target).item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(loss(5 * target + 3, target), torch.tensor(0.0), atol=1e-6, rtol=0)


def test_float32_in_bfloat16_training():
    target = torch.randn(2, 5, 8)
    assert FeatureRegressionLoss()(target.bfloat16(), target).dtype == torch.float32


def test_unknown_norm():
    with pytest.raises(ValueError, match="target_norm='bn'"):
        FeatureRegressionLoss(target_norm='bn')
