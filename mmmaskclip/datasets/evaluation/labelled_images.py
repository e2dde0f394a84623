"""Labelled images for zero-shot classification: read by a library's dataset class, checked against the protocol."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision.datasets
from mmengine import registry as root
from mmengine.dataset import BaseDataset
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mmmaskclip.datasets.evaluation.evaluation_shards import EvaluationShards
from mmmaskclip.datasets.prompts import as_classes, load_prompts
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import read_text
from mmmaskclip.datasets.transforms.decode import decode_published, pillow_decodes_published
from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import DATASETS

# Attributes in which torchvision's datasets keep the labels. Reading an attribute saves decoding every image.
_LABEL_ATTRIBUTES = ('targets', '_labels', 'labels', 'y')
_SAMPLE_ATTRIBUTES = ('samples', '_samples')

# Under the root, so that configs of any scope find them.
for _name, _class in vars(torchvision.datasets).items():
    if _name in torchvision.datasets.__all__:
        root.DATASETS.register_module(f'torchvision/{_name}', module=_class)


class MissingImages(FileNotFoundError):
    """The images of a set are not on this machine. A suite leaves the set out; any other error ends the suite."""


@DATASETS.register_module()
class LabelledImages(Dataset):
    """One split of a classification set, in its public layout or CLIP_benchmark's, with labels in the prompts' order.

    If ``folder`` exists, the library's dataset reads it; otherwise ``shards`` are read. If the library (or
    ``classnames.txt`` beside the shards) names the classes as ``classes`` does, labels are renumbered to the order of
    ``classes``: the libraries sort some sets in another order than the protocols (Oxford pets, SUN397, VOC2007). The
    numbers of samples and classes are checked: a wrong split is an error.

    Args:
        source: Config of a dataset of torchvision (``type='torchvision/CIFAR10'``) or mmpretrain
            (``type='mmpretrain.CUB'``), without transforms.
        folder: Folder that the source reads.
        classes: Name or path of a prompt file, or the class names (each one name or a list of synonyms).
        transforms: Deterministic transforms of the image, as in one view of
            :class:`~mmmaskclip.datasets.transforms.views.ImageViews`.
        num_classes: Number of classes in the protocol.
        num_samples: Number of samples in the protocol's split; None if copies of the set differ, e.g. web videos.
        shards: The same split as tar shards in the layout of CLIP_benchmark (``clip_benchmark_export_wds``): a path
            with wildcards.
        label_order: Labels of the source in the order of ``classes``, if neither names nor numbers give the order.
        shards_label_order: The same for the shards.
        per_class: Take only the images ``[first, last)`` of each class, for splits defined this way (EuroSAT).
        label_key: Extension of the label in the shards: ``'cls'``, or ``'npy'`` with several labels.
        folders: The source's names of the classes, in the order of ``classes``; for an ``ImageFolder`` whose folders
            are not named like the classes.
        get: How to get the set; the error about missing images ends with this text.

    Attributes:
        metainfo (dict): ``classes``, a tuple of each class's first name.

    Raises:
        MissingImages: If the folder is missing or empty and there are no shards.
        ValueError: If counts differ from the protocol, the class list has another length, the names of the classes
            contradict their order or ``folders``, or samples have no labels; on access, if an image cannot be read.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        folder: str,
        classes: str | Sequence[str | Sequence[str]],
        transforms: list[Any],
        num_classes: int,
        num_samples: int | None = None,
        shards: str | None = None,
        label_order: Sequence[int] | None = None,
        shards_label_order: Sequence[int] | None = None,
        per_class: tuple[int, int] | None = None,
        label_key: str = 'cls',
        folders: Sequence[str] | None = None,
        get: str = '',
    ) -> None:
        self._name = Path(folder).name
        names = load_prompts(classes).classes if isinstance(classes, str) else as_classes(classes)
        if len(names) != num_classes:
            raise ValueError(f'{self._name} has {num_classes} classes, but classes={classes!r} names {len(names)}')
        self.metainfo = {'classes': tuple(synonyms[0] for synonyms in names)}
        self._images: _Source = _open(source, folder, shards, transforms, label_key, get)
        self._labels = self._images.labels()
        self._indices = np.arange(len(self._labels))
        from_shards = isinstance(self._images, _Shards)
        order = shards_label_order if from_shards else label_order
        if folders is not None and not from_shards:
            self._check_folders(folders)
            order = range(num_classes)
        self._renumber(order or _order(self._images.classes, names, self.where, from_shards))
        if per_class is not None and not from_shards:
            self._keep(per_class)
        self._check(num_classes, num_samples)

    @property
    def where(self) -> str:
        """The folder, or the path of the shards, that the images are read from."""
        return self._images.where

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        label = self._labels[index]
        image, converted = self._images.image(int(self._indices[index]))
        return {
            'image': image,
            'label': int(label) if label.ndim == 0 else torch.from_numpy(label.copy()),
            'key': f'{self._name}/{self._indices[index]}',
            # Why the image was converted, see decode_published.
            'converted': converted,
        }

    def _check_folders(self, folders: Sequence[str]) -> None:
        present, expected = list(self._images.classes), list(folders)
        if present != expected:
            raise ValueError(
                f'{self.where} has the classes {present[:10]}, but the protocol of {self._name} {expected[:10]}: name '
                'and sort the folders as the protocol does'
            )

    def _renumber(self, order: Sequence[int]) -> None:
        """Replace every label by its index in ``order``; with several labels per sample, reorders the columns."""
        if not order:
            return
        if self._labels.ndim == 2:
            self._labels = self._labels[:, list(order)]
            return
        unknown = sorted({*self._labels.tolist()} - {*order})
        if unknown:
            raise ValueError(f'{self.where} has the labels {unknown[:5]}, which are none of {list(order)[:20]}')
        places = {label: place for place, label in enumerate(order)}
        self._labels = np.array([places[label] for label in self._labels.tolist()], dtype=np.int64)

    def _keep(self, per_class: tuple[int, int]) -> None:
        of_class = [np.flatnonzero(self._labels == label)[slice(*per_class)] for label in np.unique(self._labels)]
        self._indices = np.concatenate(of_class)
        self._labels = self._labels[self._indices]

    def _check(self, num_classes: int, num_samples: int | None) -> None:
        if num_samples is not None and len(self) != num_samples:
            raise ValueError(
                f'{self.where} has {len(self)} samples, but the protocol of {self._name} has {num_samples}: this is '
                'another split or an incomplete copy; set num_samples to evaluate it all the same'
            )
        present = np.unique(self._labels) if self._labels.ndim == 1 else np.flatnonzero(self._labels.any(0))
        if present.tolist() != list(range(num_classes)) or self._labels.shape[1:] not in ((), (num_classes,)):
            lacking = sorted({*range(num_classes)} - {*present.tolist()})
            surplus = sorted({*present.tolist()} - {*range(num_classes)})
            raise ValueError(
                f'{self.where} has images of {len(present)} classes, but the protocol of {self._name} has {num_classes}'
                f': no image of classes {lacking[:5]}, unknown classes {surplus[:5]}'
            )


class _Source:
    """Images and labels of a library's dataset.

    Attributes:
        where: The folder.
        classes: Names of the classes in the order of the labels; empty if unknown.
    """

    def __init__(self, dataset: Any, where: str, transforms: list[Any], get: str = '') -> None:
        self.where, self._get = where, get
        self._dataset = dataset
        self._views = ImageViews({'image': transforms})
        self._is_mmpretrain = isinstance(dataset, BaseDataset)
        classes = dataset.CLASSES if self._is_mmpretrain else getattr(dataset, 'classes', None)
        # torchvision's ImageNet gives tuples of synonyms.
        self.classes = [name if isinstance(name, str) else name[0] for name in classes or ()]

    def labels(self) -> np.ndarray:
        """Labels (N,), or 0 and 1 for every class (N, C) if a sample has several labels; int64."""
        if not self._is_mmpretrain:
            given = self._of_torchvision()
            # For FER2013's test split torchvision accepts Kaggle's test.csv, which has no labels.
            if any(label is None for label in given):
                raise ValueError(f'{self.where} holds samples without labels. {self._get}'.strip())
            return np.array(given, dtype=np.int64)
        infos = [self._dataset.get_data_info(index) for index in range(len(self._dataset))]
        if not infos or np.ndim(infos[0]['gt_label']) == 0:
            return np.array([info['gt_label'] for info in infos], dtype=np.int64)
        labels = np.zeros((len(infos), len(self.classes)), dtype=np.int64)
        for row, info in zip(labels, infos, strict=True):
            # As in CLIP_benchmark, difficult objects count as present.
            row[[*info['gt_label'], *info['gt_label_difficult']]] = 1
        return labels

    def _of_torchvision(self) -> Sequence[int]:
        if isinstance(self._dataset, torchvision.datasets.PCAM):
            return _labels_of_pcam(self._dataset)
        for name in _LABEL_ATTRIBUTES:
            if getattr(self._dataset, name, None) is not None:
                return getattr(self._dataset, name)
        for name in _SAMPLE_ATTRIBUTES:
            if (samples := getattr(self._dataset, name, None)) is not None:
                return [label for _, label in samples]
        return [self._dataset[index][1] for index in range(len(self._dataset))]

    def image(self, index: int) -> tuple[Tensor, str]:
        """The transformed image (3, H, W), uint8, and why it was converted, empty if it was not."""
        if not self._is_mmpretrain:
            image, converted = self._image_of_torchvision(index)
            return self._views(image, 0)['image'], converted
        path = self._dataset.get_data_info(index)['img_path']
        try:
            image, converted = decode_published(Path(path).read_bytes())
            return self._views(image, 0)['image'], converted
        except BadSample as bad:
            # Skipping the sample would silently change the metric.
            raise ValueError(f'{path} cannot be evaluated: {bad}') from bad

    def _image_of_torchvision(self, index: int) -> tuple[Image.Image, str]:
        try:
            with pillow_decodes_published() as converted:
                image = self._dataset[index][0].convert('RGB')
            return image, ', '.join(converted)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
            key = f'{Path(self.where).name}/{index}'
            raise ValueError(f'{key} of {self.where} cannot be evaluated: {error}') from error


class _Shards(_Source):
    """Images and labels of tar shards in CLIP_benchmark's layout, with ``classnames.txt`` above the split's folder."""

    def __init__(self, urls: str, transforms: list[Any], label_key: str) -> None:
        self.where = urls
        self._shards = EvaluationShards(urls, transforms, label_key=label_key, published=True)
        names = Path(urls).parent.parent / 'classnames.txt'
        lines = read_text(names).splitlines() if names.is_file() else []
        self.classes = [line.strip() for line in lines if line.strip()]

    def labels(self) -> np.ndarray:
        return self._shards.labels()

    def image(self, index: int) -> tuple[Tensor, str]:
        sample = self._shards[index]
        return sample['image'], sample['converted']


def _open(
    source: Mapping[str, Any], folder: str, shards: str | None, transforms: list[Any], label_key: str, get: str
) -> _Source:
    # An empty folder counts as missing, because a download that has not begun leaves one.
    if Path(folder).is_dir() and any(Path(folder).iterdir()):
        try:
            return _Source(_build(source), folder, transforms, get)
        except (RuntimeError, OSError) as error:
            # torchvision's own error says only "Dataset not found or corrupted".
            raise ValueError(f'{source["type"]} cannot read {folder}: {error} {get}'.strip()) from error
    if shards and glob.glob(shards):
        return _Shards(shards, transforms, label_key)
    other = f' nor shards {shards}' if shards else ''
    what = 'There is nothing in the folder' if Path(folder).is_dir() else 'There is no folder'
    raise MissingImages(f'{what} {folder}{other}. {get}'.strip())


def _build(source: Mapping[str, Any]) -> Any:
    library, _, name = source['type'].partition('/')
    if library == 'torchvision' and name not in torchvision.datasets.__all__:
        raise ValueError(f'torchvision has no dataset {name!r}')
    return DATASETS.build(dict(source))


def _labels_of_pcam(dataset: Any) -> list[int]:
    """Labels of torchvision's PCAM, which has no attribute for them; its items would decode every image."""
    name = dataset._FILES[dataset._split]['targets'][0]
    with dataset.h5py.File(dataset._base_folder / name) as file:
        return file['y'][:].reshape(-1).tolist()


def _order(source: Sequence[str], prompts: Sequence[Sequence[str]], where: str, names_must_match: bool) -> list[int]:
    """The source's class numbers in the order of the prompts, matched by name; empty if the numbers need no change."""
    number = {_plain(name): index for index, names in enumerate(prompts) for name in names}
    matched = {number[_plain(name)]: index for index, name in enumerate(source) if _plain(name) in number}
    if len(matched) == len(prompts) == len(source):
        return [matched[index] for index in range(len(prompts))]
    wrong = [f'{source[old]!r} is {old} here and {new} there' for new, old in matched.items() if old != new]
    if names_must_match and source and 2 * len(matched) < len(prompts):
        wrong.append(f'only {len(matched)} of {len(prompts)} names are the same')
    if wrong:
        raise ValueError(
            f'{where}: its classes are not those of the prompts: {"; ".join(wrong[:3])}. Give other classes, or set '
            'label_order (shards_label_order for shards).'
        )
    numbers = [int(name) for name in source if name.isdecimal()]
    if not matched and len(numbers) == len(source) and numbers != sorted(numbers):
        raise ValueError(
            f'{where}: its classes are numbers, sorted as text: {", ".join(source[:4])}, ...; pad them with zeros to '
            'one length, or set label_order'
        )
    return []


def _plain(name: str) -> str:
    return re.sub(r'[^a-z0-9]', '', name.lower())
