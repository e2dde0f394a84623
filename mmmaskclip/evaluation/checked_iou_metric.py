"""mmseg's IoU metric with checks of the masks.

``mmmaskclip.evaluation`` does not import this module, because mmseg takes seconds. A config names it in
``custom_imports``.
"""

from collections.abc import Sequence
from typing import Any

from mmseg.evaluation import IoUMetric
from torch import Tensor

from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class CheckedIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` with checks: wrong masks and predictions are errors that name the file.

    mmseg's own metric ignores pixels whose value is no class. A mask of another data set then gives low numbers instead
    of an error. It counts NaN logits as a prediction of the first class. For a mask of colours, or of another size than
    its prediction, torch raises an error that names no file. The arguments of this class are those of
    ``mmseg.IoUMetric``.
    """

    dataset_meta: Any

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Check and counts one batch.

        Args:
            data_batch: Not used.
            data_samples: Predictions and masks, as mmseg's segmentors give them.

        Raises:
            ValueError: If a mask holds a value that is neither a class nor ignored, a mask is not of the image's size,
                or logits are not finite. Names the file.
        """
        num_classes = len(self.dataset_meta['classes'])
        for sample in data_samples:
            name = sample.get('seg_map_path') or sample.get('img_path')
            if not self.format_only:
                mask, predicted = (sample[key]['data'].squeeze() for key in ('gt_sem_seg', 'pred_sem_seg'))
                _check_mask(mask, predicted.shape, num_classes, self.ignore_index, name)
            if 'seg_logits' in sample:
                check_finite(sample['seg_logits']['data'][None], [sample.get('img_path')])
        super().process(data_batch, data_samples)


def _check_mask(mask: Tensor, size: Sequence[int], num_classes: int, ignore_index: int, name: Any) -> None:
    if mask.ndim != 2:
        raise ValueError(
            f'{name}: the mask has the shape {tuple(mask.shape)}, but one value per pixel is needed: convert colours '
            'to class indices (PNG of mode L or P)'
        )
    if tuple(mask.shape) != tuple(size):
        raise ValueError(f'{name}: the mask is {tuple(mask.shape)}, its image {tuple(size)} (height, width)')
    unknown = mask[(mask >= num_classes) & (mask != ignore_index)]
    if len(unknown):
        raise ValueError(
            f'{name}: the mask holds the value {int(unknown[0])}, but there are {num_classes} classes and '
            f'{ignore_index} is ignored: the class list does not belong to this data set'
        )
