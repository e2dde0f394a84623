"""Images with masks of mmseg's datasets, as samples of ours."""

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
    """Gives image and mask of any dataset of mmseg, which finds the files and brings mask values to class numbers.

    For probes in the evaluation loop; segmentors of mmseg read mmseg's datasets themselves.

    Args:
        source: Config of a dataset of mmseg (``type='mmseg.ADE20KDataset'``, ``data_root`` and so on); no pipeline.
        transforms: Deterministic transforms of the image, as in one view of
            :class:`~mmmaskclip.datasets.transforms.views.ImageViews`. They must keep the whole image: the mask, which
            is given in its own size, is laid over it.
        num_samples: How many images the split must have. Default: not checked.

    Attributes:
        metainfo (dict): That of the source, with ``classes`` where it has them.

    Raises:
        ValueError: If there is another number of images than ``num_samples``, or none.
    """

    def __init__(self, source: dict, transforms: list[Any], num_samples: int | None = None) -> None:
        # Here, not at the top: it takes seconds that runs without segmentation need not wait for.
        import mmseg.datasets  # noqa: F401

        pipeline = [dict(type='mmseg.LoadAnnotations')]
        self._source = ROOT.build({**source, 'pipeline': pipeline, 'lazy_init': True})
        self._views = ImageViews({'image': transforms})
        self.metainfo: dict[str, Any] = dict(self._source.metainfo)
        folder = self._source.data_prefix.get('img_path')
        # Asked before full_init, which says of an empty list only that it cannot be concatenated.
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
        """A sample: ``image`` uint8 (3, h, w), ``mask`` uint8 (H, W), ``key`` (path of the image)."""
        info = self._source.get_data_info(index)
        path = info['img_path']
        try:
            # The mask first: mmseg opens any format, and turns values to class numbers, but names no file in an error.
            where = info['seg_map_path']
            with open(where, 'rb') as file:
                stored = decode_mask(file.read())
            where = path
            with open(path, 'rb') as file:
                image = decode_image(file.read(), DEFAULT_MAX_PIXELS)
        except BadSample as bad:
            # A missing sample would change the metric without a word.
            raise ValueError(f'{where} cannot be evaluated: {bad}') from bad
        if stored.shape != image.size[::-1] and stored.shape == image.size:
            raise ValueError(
                f'{path} cannot be evaluated: turned upright, as its EXIF data say, it has {image.size[1]}x'
                f'{image.size[0]} pixels (height x width), but its mask lies on its side: turn the mask too'
            )
        mask = torch.from_numpy(np.ascontiguousarray(self._source[index]['gt_seg_map'], dtype=np.uint8))
        return {**self._views(image, 0), 'mask': mask, 'key': path}
