"""Zero-shot segmentation against NumPy references for the upsampling and for IoU."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.evaluation import ZeroShotSegmentation
from mmmaskclip.registry import MODELS


class Tower(nn.Module):
    """Stands for an image tower without padding."""

    def unpadded_fraction(self, size):
        return 1.0, 1.0


class OneWordModel(nn.Module):
    """Gives the prompts, one per class, the rows of a given matrix; an image is its own patch embeddings."""

    def __init__(self, class_embeds):
        super().__init__()
        self.class_embeds = nn.Parameter(class_embeds)
        self.image_encoder = Tower()
        self.data_preprocessor = nn.Identity()

    tokenize = staticmethod(tokenize)

    def encode_text(self, tokens):
        return F.normalize(self.class_embeds, dim=-1)

    def encode_dense(self, images, read_out):
        assert read_out == 'patch'
        return images


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


def make_batches(num_classes=4):
    generator = torch.Generator().manual_seed(0)
    classes = F.normalize(torch.randn(num_classes, 8, generator=generator), dim=-1)
    batches = []
    for size in ((12, 15), (9, 9)):
        patches = F.normalize(torch.randn(2, 8, 3, 4, generator=generator), dim=1)
        masks = torch.randint(num_classes - 1, (2, *size), generator=generator).to(torch.uint8)
        masks[:, 0, :3] = 255
        batches.append({'image': patches, 'mask': masks, 'key': [f'{size} {index}' for index in range(2)]})
    return classes, batches


def test_miou_equals_reference():
    classes, batches = make_batches()
    metric = ZeroShotSegmentation([f'class{i}' for i in range(4)], ['a {}'])
    metric.prepare(OneWordModel(classes))
    for batch in batches:
        metric.process(batch, [])
    found = metric.evaluate(4)

    predicted, truth = [], []
    for batch in batches:
        for patches, mask in zip(batch['image'].numpy(), batch['mask'].numpy(), strict=True):
            # Similarities are upsampled, not labels.
            logits = np.einsum('dhw,cd->chw', patches, classes.numpy())
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


@pytest.mark.parametrize('read_out', ['patch', 'value'])
def test_image_that_is_no_multiple_of_the_patch_is_not_stretched(tiny_model_cfg, read_out):
    cfg = tiny_model_cfg()
    del cfg['text_encoder']['vocab_size']
    model = MODELS.build(cfg)
    model.init_weights()
    model.eval()
    images = torch.randint(256, (2, 3, 27, 41), dtype=torch.uint8)
    masks = torch.randint(4, (2, 27, 41)).to(torch.uint8)
    metric = ZeroShotSegmentation([f'class{i}' for i in range(4)], ['a {}'], read_out)
    metric.prepare(model)
    metric.process({'image': images, 'mask': masks}, [])
    found = metric.evaluate(2)['segmentation/aAcc']

    right = []
    for image, mask in zip(model.data_preprocessor({'image': images})['image'], masks, strict=True):
        with torch.no_grad():
            patches = model.encode_dense(F.pad(image, (0, 7, 0, 5))[None], read_out)[0]
        logits = np.einsum('dhw,cd->chw', patches.numpy(), metric.class_embeds.numpy())
        right.append(upsample(logits, 32, 48)[:, :27, :41].argmax(0) == mask.numpy())
    assert found == pytest.approx(100 * np.mean(right), abs=0.05)


def test_class_that_neither_occurs_nor_is_predicted_does_not_count():
    classes = torch.eye(3)
    metric = ZeroShotSegmentation(['a', 'b', 'c'], ['{}'])
    metric.prepare(OneWordModel(classes))
    mask = torch.tensor([[[0, 1]]], dtype=torch.uint8)
    metric.process({'image': classes[:, [0, 1]][None, :, None], 'mask': mask}, [])
    assert metric.compute_metrics(metric.results)['mIoU'] == 100


def test_unknown_mask_value_is_named():
    classes, (batch, _) = make_batches()
    metric = ZeroShotSegmentation(['a', 'b', 'c', 'd'], ['{}'], ignore_index=254)
    with pytest.raises(RuntimeError, match='prepare'):
        metric.process(batch, [])
    metric.prepare(OneWordModel(classes))
    with pytest.raises(ValueError, match=r"sample '\(12, 15\) 0' holds the value 255, but there are 4 classes"):
        metric.process(batch, [])
    with pytest.raises(ValueError, match=r"needs a mask for each image, the data set gives \['image'\]"):
        metric.process({'image': batch['image']}, [])


def test_embeddings_that_are_not_finite_are_refused():
    classes, (batch, _) = make_batches()
    metric = ZeroShotSegmentation(['a', 'b', 'c', 'd'], ['{}'])
    metric.prepare(OneWordModel(classes))
    batch['image'][1, 3, 2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"sample '\(12, 15\) 1' is not finite"):
        metric.process(batch, [])


def test_unknown_read_out_is_refused_before_anything_is_encoded():
    with pytest.raises(ValueError, match="read_out='key'"):
        ZeroShotSegmentation(['a', 'b'], ['{}'], read_out='key')
