"""Zero-shot segmentation against NumPy references for the upsampling and for IoU."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmmaskclip.evaluation import ZeroShotSegmentation, segment
from mmmaskclip.registry import MODELS


class OneWordModel(nn.Module):
    """Gives the prompts, one per class, the rows of a given matrix."""

    def __init__(self, class_embeds):
        super().__init__()
        self.class_embeds = nn.Parameter(class_embeds)

    def encode_text(self, tokens):
        return F.normalize(self.class_embeds, dim=-1)


def upsample(logits, height, width):
    """Bilinear, pixel centres (align_corners=False), one axis after the other."""

    def along(values, size):
        old = values.shape[-1]
        position = np.clip((np.arange(size) + 0.5) * old / size - 0.5, 0, None)
        low = np.minimum(position.astype(int), old - 1)
        high = np.minimum(low + 1, old - 1)
        weight = position - low
        return values[..., low] * (1 - weight) + values[..., high] * weight

    return along(along(logits, width).swapaxes(1, 2), height).swapaxes(1, 2)


def make_samples(num_classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = F.normalize(torch.randn(num_classes, 8, generator=generator), dim=-1)
    samples = []
    for size in ((12, 15), (9, 9), (12, 15)):
        patches = F.normalize(torch.randn(8, 3, 4, generator=generator), dim=0)
        mask = torch.randint(num_classes - 1, size, generator=generator).to(torch.uint8)
        mask[0, :3] = 255
        samples.append({'patch_embeds': patches, 'mask': mask, 'key': str(size)})
    return classes, samples


def test_segment_upsamples_logits_not_labels():
    classes, samples = make_samples()
    patches = samples[0]['patch_embeds']
    logits = np.einsum('dhw,cd->chw', patches.numpy().astype(np.float64), classes.numpy().astype(np.float64))
    assert (segment(patches, classes, (12, 15)).numpy() == upsample(logits, 12, 15).argmax(0)).all()


def test_miou_equals_reference():
    classes, samples = make_samples()
    metric = ZeroShotSegmentation([f'class{i}' for i in range(4)], ['a {}'])
    metric.prepare(OneWordModel(classes))
    metric.process(None, samples[:2])
    metric.process(None, samples[2:])
    found = metric.evaluate(3)

    predicted, truth = [], []
    for sample in samples:
        logits = np.einsum('dhw,cd->chw', sample['patch_embeds'].numpy(), classes.numpy())
        mask = sample['mask'].numpy()
        predicted.append(upsample(logits, *mask.shape).argmax(0)[mask != 255])
        truth.append(mask[mask != 255])
    predicted, truth = np.concatenate(predicted), np.concatenate(truth)
    ious = [((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum() for c in range(4)]
    accuracies = [(predicted[truth == c] == c).mean() for c in range(3)]  # The last class never occurs.
    assert found == pytest.approx(
        {
            'segmentation/mIoU': 100 * np.mean(ious),
            'segmentation/mAcc': 100 * np.mean(accuracies),
            'segmentation/aAcc': 100 * (predicted == truth).mean(),
        }
    )
    assert 0 < found['segmentation/mIoU'] < 100


def test_image_that_is_no_multiple_of_the_patch_is_not_stretched(tiny_model_cfg):
    cfg = tiny_model_cfg()
    del cfg['text_encoder']['vocab_size']
    model = MODELS.build(cfg)
    model.init_weights()
    model.eval()
    images = torch.randint(256, (2, 3, 27, 41), dtype=torch.uint8)
    masks = torch.randint(4, (2, 27, 41)).to(torch.uint8)
    batch = model.data_preprocessor({'image': images, 'mask': masks, 'key': ['a', 'b']})
    metric = ZeroShotSegmentation([f'class{i}' for i in range(4)], ['a {}'])
    metric.prepare(model)
    with torch.no_grad():
        samples = model.predict(batch)
    assert samples[0]['patch_embeds'].shape[1:] == (4, 6)
    metric.process(None, samples)
    found = metric.evaluate(2)['segmentation/aAcc']

    right = []
    for image, mask in zip(batch['image'], masks, strict=True):
        with torch.no_grad():
            patches = model.encode_dense(F.pad(image, (0, 7, 0, 5))[None])[0]
        logits = np.einsum('dhw,cd->chw', patches.numpy(), metric.class_embeds.numpy())
        right.append(upsample(logits, 32, 48)[:, :27, :41].argmax(0) == mask.numpy())
    assert found == pytest.approx(100 * np.mean(right), abs=0.05)


def test_class_that_neither_occurs_nor_is_predicted_does_not_count():
    classes = torch.eye(3)
    metric = ZeroShotSegmentation(['a', 'b', 'c'], ['{}'])
    metric.prepare(OneWordModel(classes))
    mask = torch.tensor([[0, 1]], dtype=torch.uint8)
    metric.process(None, [{'patch_embeds': classes[:, [0, 1]][:, None], 'mask': mask}])
    assert metric.compute_metrics(metric.results)['mIoU'] == 100


def test_unknown_mask_value_is_named():
    classes, samples = make_samples(num_classes=4)
    metric = ZeroShotSegmentation(['a', 'b', 'c', 'd'], ['{}'], ignore_index=254)
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(None, samples)
    metric.prepare(OneWordModel(classes))
    with pytest.raises(ValueError, match='holds the value 255, but there are 4 classes'):
        metric.process(None, samples)
