"""Things and stuff of panoptic annotations in COCO's format, as regions to classify."""

import json
from collections.abc import Sequence
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.datasets.evaluation.coco_regions import box_mask
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image
from mmmaskclip.registry import DATASETS

# Suffixes in COCO's names of stuff that describe the annotation, not the thing.
_SUFFIXES = ('-merged', '-other', '-stuff')


@DATASETS.register_module()
class PanopticRegions(Dataset):
    """Images, resized without cropping, with the segments of their panoptic masks: boxes, things and stuff.

    COCO 2017 and ADE20K (by detectron2's ``prepare_ade20k_pan_seg.py``) have this format: a json of segments, and for
    each image a PNG whose colour R + 256 G + 65536 B is a segment's id. Crowds are left out.

    Args:
        ann_file: The json.
        mask_folder: Folder of the PNGs.
        image_folder: Folder of the images.
        size: Height and width that images are resized to, bilinearly. Defaults to (224, 224).
        num_samples: Number of images that the file must list. Default: not checked.

    Attributes:
        metainfo (dict): ``classes``, in the order of the labels: the categories, sorted by id, with the names of
            :func:`plain_name`.

    Raises:
        FileNotFoundError: If ``ann_file`` does not exist.
        ValueError: If ``ann_file`` is not such a json, or lists another number of images than ``num_samples``.
    """

    def __init__(
        self,
        ann_file: str | PathLike,
        mask_folder: str | PathLike,
        image_folder: str | PathLike,
        size: Sequence[int] = (224, 224),
        num_samples: int | None = None,
    ) -> None:
        try:
            content = json.loads(Path(ann_file).read_text(encoding='utf-8-sig'))
            images = {image['id']: image for image in content['images']}
            categories = sorted(content['categories'], key=lambda category: category['id'])
            self._things = [bool(category['isthing']) for category in categories]
            self._samples = [
                (images[one['image_id']], one['file_name'], one['segments_info']) for one in content['annotations']
            ]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f'{ann_file} is no json of panoptic segments: {error!r}') from error
        if num_samples not in (None, len(self._samples)):
            raise ValueError(f'{ann_file} lists {len(self._samples)} images, the protocol {num_samples}')
        self.metainfo: dict[str, Any] = {'classes': tuple(plain_name(category['name']) for category in categories)}
        self._labels = {category['id']: label for label, category in enumerate(categories)}
        self._masks, self._images, self._size = Path(mask_folder), Path(image_folder), list(size)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: ``image`` uint8 (3, H, W), ``key`` (name of the file), and ``regions``: dicts with ``kind``
        (``'boxes'``, ``'things'`` or ``'stuff'``), ``label`` and ``mask``, bool (h, w) in the size of the mask file.

        Raises:
            ValueError: If the image or the mask cannot be used, or a segment is of no category.
        """
        info, mask_name, segments = self._samples[index]
        path = self._images / info['file_name']
        try:
            image = decode_image(path.read_bytes(), DEFAULT_MAX_PIXELS)
            with Image.open(BytesIO((self._masks / mask_name).read_bytes())) as colours:
                red, green, blue = np.moveaxis(np.asarray(colours.convert('RGB'), np.int64), -1, 0)
        except (BadSample, OSError) as bad:
            # Skipping the sample would silently change the metric.
            raise ValueError(f'{path} cannot be evaluated: {bad}') from bad
        ids = red + 256 * green + 65536 * blue  # (h, w)
        regions = [region for segment in segments for region in self._regions(segment, ids, mask_name)]
        pixels = TF.resize(TF.pil_to_tensor(image), self._size)
        assert isinstance(pixels, torch.Tensor)
        return {'image': pixels, 'regions': regions, 'key': info['file_name']}

    def _regions(self, segment: dict, ids: np.ndarray, mask_name: str) -> list[dict]:
        mask = ids == segment['id']
        if segment.get('iscrowd') or not mask.any():
            return []
        label = self._labels.get(segment['category_id'])
        if label is None:
            raise ValueError(f'{mask_name} has a segment of the category {segment["category_id"]}, which is not listed')
        if not self._things[label]:
            return [dict(kind='stuff', label=label, mask=mask)]
        box = box_mask(segment['bbox'], dict(zip(('height', 'width'), ids.shape, strict=True)))
        return [dict(kind='boxes', label=label, mask=box), dict(kind='things', label=label, mask=mask)]


def plain_name(name: str) -> str:
    """A category's name in plain words: ``'brick wall'`` for ``'wall-brick'``, ``'food'`` for ``'food-other-merged'``.

    If a category has several names, as in ADE20K, this is the first.
    """
    name = name.split(',')[0].strip()
    for ending in _SUFFIXES:
        name = name.removesuffix(ending)
    first, _, kind = name.partition('-')
    return {'playingfield': 'playing field'}.get(name, f'{kind} {first}' if kind else first)
