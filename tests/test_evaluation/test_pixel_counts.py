import numpy as np
import pytest
import torch

from mmmaskclip.evaluation.pixel_counts import class_masks, count_pixels, iou_metrics


def test_ignored_pixels_are_marked_and_unknown_values_refused():
    batch = {'mask': torch.tensor([[[0, 1]], [[9, 1]]], dtype=torch.uint8), 'key': ['a', 'b']}
    assert class_masks(batch, num_classes=2, ignore_index=9).tolist() == [[[0, 1]], [[2, 1]]]
    with pytest.raises(ValueError, match="mask of sample 'b' holds the value 9, but there are 2 classes and 255 is"):
        class_masks(batch, num_classes=2, ignore_index=255)


def test_metrics_by_hand():
    predicted, mask = (
        torch.tensor([[0, 0, 1, 2]]),
        torch.tensor([[0, 1, 1, 3]]),
    )  # of three classes; the last is ignored
    counts = count_pixels(predicted, mask, 3)
    assert counts.tolist() == [[1, 1, 0], [2, 2, 0], [2, 1, 0], [1, 2, 0]]
    expected = {'mIoU': 50.0, 'mAcc': 75.0, 'aAcc': 100 * 2 / 3}  # without the class that does not occur
    assert iou_metrics([counts]) == pytest.approx(expected)
    assert iou_metrics([counts, np.zeros_like(counts)]) == pytest.approx(expected)
