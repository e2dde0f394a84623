"""Images with masks from mmseg's datasets, for probes."""

from typing import Any

import numpy as np
import torch
from mmengine.registry import DATASETS as ROOT
from torch.utils.data import Dataset

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image, decode_mask
from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class SegmentationImages(Dataset):
    """Gives image and mask of any mmseg dataset. mmseg finds the files and maps mask values to class numbers.

    Probes in the evaluation loop use it; mmseg's segmentors read mmseg's datasets directly.

    Args:
        source: Config of an mmseg dataset (``type='mmseg.ADE20KDataset'``, ``data_root`` and so on), without pipeline.
        transforms: Deterministic transforms of the image, as in one view of
            :class:`~mmmaskclip.datasets.transforms.views.ImageViews`. They must not crop: the mask keeps its full size
            and covers the whole image.
        num_samples: Number of images that the split must have. Default: not checked.

    Attributes:
        metainfo (dict): The source's metainfo, with ``classes`` if the source names them.

    Raises:
        ValueError: If the source has no image, or another number than ``num_samples``; on access, if image or mask
            cannot be read.
    """

    def __init__(self, source: dict, transforms: list[Any], num_samples: int | None = None) -> None:
        # A local import: mmseg takes seconds, and runs without segmentation do not need it.
        import mmseg.datasets  # noqa: F401

        pipeline = [dict(type='mmseg.LoadAnnotations')]
        self._source = ROOT.build({**source, 'pipeline': pipeline, 'lazy_init': True})
        self._views = ImageViews({'image': transforms})
        self.metainfo: dict[str, Any] = dict(self._source.metainfo)
        folder = self._source.data_prefix.get('img_path')
        # Checked before full_init, which for an empty list only fails to concatenate arrays.
        if not self._source.load_data_list():
            raise ValueError(f'{folder} has no {self._source.img_suffix}: correct data_root, data_prefix or img_suffix')
        self._source.full_init()
        if num_samples not in (None, len(self)):
            raise ValueError(
                f'{folder} has {len(self)} images, the protocol {num_samples}: another split or an incomplete copy; '
                'set num_samples to use it all the same'
            )

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: ``image`` uint8 (3, h, w), ``mask`` uint8 (H, W), ``key`` (path of the image)."""
        info = self._source.get_data_info(index)
        path = info['img_path']
        try:
            # The mask is decoded here as a check: mmseg opens any format, and its errors name no file.
            where = info['seg_map_path']
            with open(where, 'rb') as file:
                stored = decode_mask(file.read())
            where = path
            with open(path, 'rb') as file:
                image = decode_image(file.read(), DEFAULT_MAX_PIXELS)
        except BadSample as bad:
            # Skipping the sample would silently change the metric.
            raise ValueError(f'{where} cannot be evaluated: {bad}') from bad
        if stored.shape != image.size[::-1] and stored.shape == image.size:
            raise ValueError(
                f'{path} cannot be evaluated: turned upright, as its EXIF data say, it has {image.size[1]}x'
                f'{image.size[0]} pixels (height x width), but its mask lies on its side: turn the mask too'
            )
        mask = torch.from_numpy(np.ascontiguousarray(self._source[index]['gt_seg_map'], dtype=np.uint8))
        return {**self._views(image, 0), 'mask': mask, 'key': path}
