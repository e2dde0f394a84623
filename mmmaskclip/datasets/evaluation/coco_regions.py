"""Boxes and instance masks of COCO annotations, as regions to classify."""

import json
from collections import defaultdict
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image
from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class CocoRegions(Dataset):
    """Images, resized without cropping, with their boxes and instance masks.

    Labels are indices into ``metainfo['classes']``: the category names of the annotation file, sorted by id. Crowds and
    empty regions are left out; an image without regions stays a sample.

    Args:
        ann_file: COCO json of instances.
        image_folder: Folder of the images.
        size: Height and width that images are resized to, bilinearly. Defaults to (224, 224).
        num_samples: Number of images that the file must list. Default: not checked.

    Attributes:
        metainfo (dict): ``classes``, in the order of the labels.

    Raises:
        FileNotFoundError: If ``ann_file`` does not exist.
        ValueError: If ``ann_file`` is not a COCO json of instances, or lists another number of images than
            ``num_samples``.
    """

    def __init__(
        self,
        ann_file: str | PathLike,
        image_folder: str | PathLike,
        size: Sequence[int] = (224, 224),
        num_samples: int | None = None,
    ) -> None:
        try:
            content = json.loads(Path(ann_file).read_text(encoding='utf-8-sig'))
            self._images = sorted(content['images'], key=lambda image: image['id'])
            categories = sorted(content['categories'], key=lambda category: category['id'])
            annotations = content['annotations']
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f'{ann_file} is no COCO json of instances: {error!r}') from error
        if num_samples not in (None, len(self._images)):
            raise ValueError(f'{ann_file} lists {len(self._images)} images, the protocol {num_samples}')
        self.metainfo: dict[str, Any] = {'classes': tuple(category['name'] for category in categories)}
        labels = {category['id']: label for label, category in enumerate(categories)}
        self._annotations: dict[int, list[dict]] = defaultdict(list)
        for one in annotations:
            if not one.get('iscrowd'):
                self._annotations[one['image_id']].append({**one, 'label': labels[one['category_id']]})
        self._folder, self._size = Path(image_folder), list(size)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One sample: ``image`` uint8 (3, H, W), ``key`` (name of the file), and ``regions``: dicts with ``kind``
        (``'boxes'`` or ``'things'``), ``label`` and ``mask``, bool (h, w) in the size of the image file.

        Raises:
            ValueError: If the image cannot be used.
        """
        info = self._images[index]
        path = self._folder / info['file_name']
        try:
            image = decode_image(path.read_bytes(), DEFAULT_MAX_PIXELS)
        except BadSample as bad:
            # Skipping the sample would silently change the metric.
            raise ValueError(f'{path} cannot be evaluated: {bad}') from bad
        regions = [
            region
            for one in self._annotations[info['id']]
            for region in (
                dict(kind='boxes', label=one['label'], mask=box_mask(one['bbox'], info)),
                dict(kind='things', label=one['label'], mask=_instance_mask(one.get('segmentation'), info)),
            )
            if region['mask'] is not None and region['mask'].any()
        ]
        pixels = TF.resize(TF.pil_to_tensor(image), self._size)
        assert isinstance(pixels, torch.Tensor)
        return {'image': pixels, 'regions': regions, 'key': info['file_name']}


def box_mask(box: Sequence[float], info: dict) -> np.ndarray:
    """The pixels of a box (x, y, width, height), bool (h, w) of the ``height`` and ``width`` in ``info``."""
    mask = np.zeros((info['height'], info['width']), dtype=bool)
    x, y, width, height = box
    # At least one pixel: some boxes are smaller than a pixel.
    left, top = int(x), int(y)
    mask[top : max(top + 1, round(y + height)), left : max(left + 1, round(x + width))] = True
    return mask


def _instance_mask(segmentation: Any, info: dict) -> np.ndarray | None:
    if not segmentation:
        return None
    # A local import: pycocotools is a dependency of detection only.
    from pycocotools import mask as mask_api

    if isinstance(segmentation, list):
        segmentation = mask_api.merge(mask_api.frPyObjects(segmentation, info['height'], info['width']))
    elif isinstance(segmentation['counts'], list):
        segmentation = mask_api.frPyObjects(segmentation, info['height'], info['width'])
    return mask_api.decode(segmentation).astype(bool)
