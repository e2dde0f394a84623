"""Linear segmentation probe: its parts against NumPy and a convex optimum, the whole on images that patches tell."""

import numpy as np
import pytest
import torch
from datasets_of_images import batch_of
from torch.utils.data import Dataset

from mmmaskclip.evaluation.frozen_features import patch_features
from mmmaskclip.evaluation.linear_segmentation_probe import class_shares, fit_linear_head
from mmmaskclip.registry import METRICS, MODELS

COLOURS = torch.tensor([[220, 30, 30], [30, 200, 40], [20, 60, 230]], dtype=torch.uint8)


class Patchwork(Dataset):
    """Images of 4 x 4 patches, each of one of three colours, with masks twice their size; a corner is ignored."""

    def __init__(self, num_samples, seed=0, size=32):
        self.num_samples, self.seed, self.size = num_samples, seed, size

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        classes = torch.randint(3, (4, 4), generator=generator).repeat_interleave(16, 0).repeat_interleave(16, 1)
        image = COLOURS[classes[::2, ::2]].permute(2, 0, 1)[..., : self.size]
        mask = classes.to(torch.uint8)
        mask[:5, :7] = 9
        return {'image': image.contiguous(), 'mask': mask, 'key': f'image {index}'}


@pytest.fixture
def model(tiny_model_cfg):
    return MODELS.build(tiny_model_cfg()).eval()


def test_shares_equal_counting_pixel_by_pixel():
    masks = torch.randint(4, (2, 7, 10), generator=torch.Generator().manual_seed(0))
    expected = np.zeros((2, 6, 4))
    for image, row, column in np.ndindex(2, 7, 10):
        expected[image, row * 2 // 7 * 3 + column * 3 // 10, masks[image, row, column]] += 1
    expected = (expected / expected.sum(-1, keepdims=True))[..., :3]
    assert class_shares(masks, (2, 3), 3).numpy() == pytest.approx(expected)
    assert class_shares(masks, (9, 20), 3).isfinite().all()  # More patches than pixels.


def test_head_reaches_the_optimum_whatever_the_tokens_scale():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(600, 4, generator=generator)
    shares = (tokens @ torch.randn(4, 3, generator=generator)).softmax(1)
    shares[::7] = 0  # Ignored.
    tokens[::7] = 1e4
    scaled = tokens * torch.tensor([1.0, 100.0, 0.01, 1.0]) + torch.tensor([0.0, 50.0, 0.0, -3.0])
    head = fit_linear_head(scaled, shares, steps=400, batch_size=256, lr=0.05, weight_decay=0.0)
    seen = shares.sum(1) > 0
    predicted = (scaled[seen] @ head[:, :-1].T + head[:, -1]).softmax(1)
    # The targets come from a linear model, so that the optimum is the targets themselves.
    assert (predicted - shares[seen]).abs().max() < 0.02
    again = fit_linear_head(scaled, shares, steps=400, batch_size=256, lr=0.05, weight_decay=0.0)
    assert torch.equal(head, again)


def test_patch_features_are_in_rows_and_columns(model):
    batch = batch_of(Patchwork(2))
    batch['image'] = torch.cat((batch['image'], batch['image'][..., :16]), dim=-1)
    features = patch_features(model, batch)
    expected = model.image_encoder.features(model.data_preprocessor(batch)['image']).patches
    assert features.shape == (2, 4, 6, 32)
    torch.testing.assert_close(features[1, 2, 5], expected[1, 2 * 6 + 5])


def make_metric(**changes):
    loader = dict(dataset=Patchwork(24), batch_size=5)
    given = dict(train_dataloader=loader, num_classes=3, ignore_index=9, steps=200, batch_size=128) | changes
    return METRICS.build(dict(type='LinearSegmentationProbe', **given))


def test_metric_equals_numpy_on_its_predictions(model):
    metric = make_metric(steps=3)  # Not yet right everywhere.
    metric.prepare(model)
    batch = batch_of(Patchwork(5, seed=1))
    for rows in (slice(0, 3), slice(3, 5)):
        metric.process({name: values[rows] for name, values in batch.items()}, None)
    found = metric.evaluate(5)
    logits = (patch_features(model, batch) @ metric.head[:, :-1].T + metric.head[:, -1]).permute(0, 3, 1, 2)
    logits = torch.nn.functional.interpolate(logits, size=(64, 64), mode='bilinear')
    seen = batch['mask'].numpy() != 9
    predicted, truth = logits.argmax(1).numpy()[seen], batch['mask'].numpy()[seen]
    ious = [((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum() for c in range(3)]
    assert found == pytest.approx(
        {
            'linear_segmentation/mIoU': 100 * np.mean(ious),
            'linear_segmentation/mAcc': 100 * np.mean([(predicted[truth == c] == c).mean() for c in range(3)]),
            'linear_segmentation/aAcc': 100 * (predicted == truth).mean(),
        }
    )
    assert found['linear_segmentation/mIoU'] < 99


def test_learns_what_patches_tell_and_leaves_the_model_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    metric = make_metric()
    with torch.no_grad():  # As in the loop.
        metric.prepare(model)
    metric.process(batch_of(Patchwork(6, seed=1)), None)
    # The borders between patches, upsampled, are not exact.
    assert metric.evaluate(6)['linear_segmentation/aAcc'] > 85
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_errors_name_what_is_wrong(model):
    metric = make_metric(num_classes=2)
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(batch_of(Patchwork(2)), None)
    with pytest.raises(
        ValueError, match=r"sample 'image 0' holds the value 2, but there are 2 classes and 9 is ignored"
    ):
        metric.prepare(model)
    with pytest.raises(ValueError, match=r'images of \(32, 30\) are no multiple of the patch size \(8, 8\)'):
        make_metric(train_dataloader=dict(dataset=Patchwork(2, size=30), batch_size=2)).prepare(model)
    unmasked = [{'image': Patchwork(1)[0]['image']}]
    with pytest.raises(ValueError, match=r"needs a mask for each image, the data set gives \['image'\]"):
        make_metric(train_dataloader=dict(dataset=unmasked, batch_size=1)).prepare(model)
    mixed = torch.utils.data.ConcatDataset([Patchwork(1), Patchwork(1, size=24)])
    with pytest.raises(ValueError, match='16 and with 12 patches'):
        make_metric(train_dataloader=dict(dataset=mixed, batch_size=1)).prepare(model)
    with pytest.raises(ValueError, match='all are ignored'):
        fit_linear_head(torch.ones(3, 2), torch.zeros(3, 2), 1, 1, 0.1, 0.0)
    with pytest.raises(AttributeError, match='Linear has no image_encoder'):
        make_metric().prepare(torch.nn.Linear(1, 1))


def test_nan_is_not_the_best_answer(model):
    metric = make_metric()
    metric.prepare(model)
    torch.nn.init.constant_(model.image_encoder.ln1.weight, torch.nan)
    with pytest.raises(ValueError, match="the model output for sample 'image 0' is not finite"):
        metric.process(batch_of(Patchwork(2)), None)
    with pytest.raises(ValueError, match="the model output for sample 'image 0' is not finite"):
        metric.prepare(model)
