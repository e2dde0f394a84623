"""Every part of the package keeps the contract that its callers rely on, and foreign parts need nothing more."""

import pytest
import torch

from mmmaskclip.contracts import FollowsRun, ImageFeatures, Objective, PretrainModel
from mmmaskclip.models import objectives
from mmmaskclip.models.objectives.views import BatchViews
from mmmaskclip.registry import MODELS

SPEC = [name for name in vars(Objective) if not name.startswith('_')] + list(Objective.__annotations__)


@pytest.mark.parametrize('name', [name for name in objectives.__all__ if 'Objective' not in name])
def test_objectives(name):
    objective = getattr(objectives, name)
    assert issubclass(objective, FollowsRun)
    # A weight is made in the constructor, from a number or a ramp.
    assert not [part for part in SPEC if part != 'weight' and not hasattr(objective, part)]


def test_the_pretrainer_is_a_model_whose_losses_are_weighted_once(tiny_model_cfg, distillation_cfg, random_batch):
    plain = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr')))).eval()
    weighted = MODELS.build(tiny_model_cfg(dict(distillation=distillation_cfg('cvpr', weight=0.25)))).eval()
    weighted.load_state_dict(plain.state_dict())
    assert isinstance(plain, PretrainModel)
    batch = plain.data_preprocessor(random_batch(2))
    (loss,), (quarter,) = (model(mode='loss', **batch).values() for model in (plain, weighted))
    torch.testing.assert_close(quarter, loss / 4)
    (raw,) = weighted.objectives['distillation'](BatchViews(weighted, batch)).values()
    torch.testing.assert_close(raw, loss)


def test_a_loss_of_torch_can_be_dropped_in(tiny_model_cfg, distillation_cfg, random_batch):
    cfg = distillation_cfg('v1') | dict(loss=dict(type='torch.nn.SmoothL1Loss', beta=2.0))
    ours, theirs = (MODELS.build(tiny_model_cfg(dict(d=one))) for one in (distillation_cfg('v1'), cfg))
    theirs.load_state_dict(ours.state_dict())
    batch = ours.data_preprocessor(random_batch(2))
    torch.testing.assert_close(theirs(mode='loss', **batch), ours(mode='loss', **batch))
    theirs.set_progress(0.5)
    theirs.after_optimizer_step()


def test_pooling():
    features = ImageFeatures(torch.ones(2, 3), torch.arange(12.0).view(2, 2, 3))
    assert features.pool('cls') is features.cls
    torch.testing.assert_close(features.pool('mean'), features.patches.mean(1))
    with pytest.raises(ValueError, match="pool='max': choose 'mean' or 'cls'"):
        features.pool('max')
