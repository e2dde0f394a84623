"""Random access to local tar shards, for evaluation."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mmmaskclip.datasets.columns import StringColumn
from mmmaskclip.datasets.labels import LabelReader
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import read_json
from mmmaskclip.datasets.training.captions import CaptionReader, listed
from mmmaskclip.datasets.training.image_text_shards import IMAGE_KEYS
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable, shard_name
from mmmaskclip.datasets.training.tar_files import read_span, walk_samples
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image, decode_mask, decode_published
from mmmaskclip.datasets.transforms.tokenize import make_tokenizer
from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class EvaluationShards(Dataset):
    """All samples of local tar shards, each once and in order, with captions, labels or masks. Nothing is skipped.

    Args:
        urls: Path with braces or wildcards, or a list of them; local, uncompressed tar files.
        transforms: Deterministic transforms of the image, as in one view of
            :class:`~mmmaskclip.datasets.transforms.views.ImageViews`.
        caption_key: Place of the captions, see :class:`~.captions.CaptionReader`. A sample keeps all its captions,
            including repetitions. A blank caption is an error. Default: no captions.
        label_key: Extension of a file with the class as a number, or as a name from ``classes``; e.g. ``'cls'``.
            ``'npy'``: an array with 0 or 1 for each class, as CLIP_benchmark stores several labels.
        mask_key: Extension of a mask, an 8-bit image of class numbers, e.g. ``'mask.png'``. The transforms do not
            resize the mask.
        classes: Names of the classes, or a json file with the list of them.
        label_by: Content of a label: ``'number'`` or ``'name'``. None allows both, if no name looks like a number; see
            :class:`~mmmaskclip.datasets.labels.LabelReader`.
        published: Read images as the protocols of published sets do, see
            :func:`~mmmaskclip.datasets.transforms.decode.decode_published`. Then ``max_pixels`` does not apply, and
            ``converted`` of a sample says why its image was converted. Defaults to False.
        image_keys: Extensions of the image, in order of preference.
        max_pixels: Largest number of pixels; larger images are an error.
        context_length: Longest caption in tokens.
        tokenizer: Tokenizer of another vocabulary than CLIP's, see
            :func:`~mmmaskclip.datasets.transforms.tokenize.make_tokenizer`.

    Attributes:
        metainfo (dict): ``classes``, a tuple, if given.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        transforms: list[Any],
        caption_key: str | Sequence[str] | None = None,
        label_key: str | None = None,
        mask_key: str | None = None,
        classes: Sequence[str] | str | None = None,
        image_keys: Sequence[str] = IMAGE_KEYS,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        context_length: int = 77,
        tokenizer: dict | None = None,
        label_by: str | None = None,
        published: bool = False,
    ) -> None:
        self.shards = expand_urls(urls)
        self._views = ImageViews({'image': transforms})
        self._captions = None if caption_key is None else CaptionReader(caption_key)
        self._label_key, self._mask_key = label_key, mask_key
        self._image_keys = tuple(image_keys)
        self._max_pixels, self._tokenize = max_pixels, make_tokenizer(tokenizer, context_length)
        self._published = published
        if isinstance(classes, str):
            classes = read_json(classes)
        self.metainfo: dict[str, Any] = {} if classes is None else {'classes': tuple(classes)}
        self._read_label = LabelReader([[name] for name in self.metainfo.get('classes', ())], label_by)
        self._build_index()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> dict[str, Any]:
        key, files = self._key(index), self._read(index)
        try:
            sample: dict[str, Any] = {}
            if self._published:
                image, sample['converted'] = decode_published(self._image(files))
            else:
                image = decode_image(self._image(files), self._max_pixels)
            sample |= self._views(image, 0)
            if self._captions is not None:
                sample['tokens'] = self._tokenize(self._captions.every(files))
            if self._label_key is not None:
                sample['label'] = self._label(files[self._label_key])
            if self._mask_key is not None:
                sample['mask'] = torch.from_numpy(decode_mask(files[self._mask_key]))
        except BadSample as bad:
            # Skipping the sample would silently change the metric.
            raise ValueError(f'{key} cannot be evaluated: {bad}') from bad
        return {**sample, 'key': key}

    def row(self, index: int) -> tuple[str, list[str]]:
        """Name and captions of a sample, without decoding its image.

        Raises:
            ValueError: If a caption cannot be used.
        """
        key, files = self._key(index), self._read(index, images=False)
        try:
            return key, [] if self._captions is None else self._captions.every(files)
        except BadSample as bad:
            raise ValueError(f'{key} cannot be evaluated: {bad}') from bad

    def labels(self) -> np.ndarray:
        """Labels of all samples without decoding their images: int64, (N,), or (N, C) for several labels.

        Raises:
            ValueError: If a label is not valid, or ``label_key`` is not set.
        """
        if self._label_key is None:
            raise ValueError('set label_key to read labels')
        labels = []
        for index in range(len(self)):
            with open(self.shards[self._shard[index]], 'rb', buffering=0) as file:
                start, size = self._spans[self._label_key][index]
                try:
                    labels.append(self._label(read_span(file, (int(start), int(size)))))
                except BadSample as bad:
                    raise ValueError(f'{self.shards[self._shard[index]]}/{self._keys[index]}: {bad}') from bad
        return np.array([np.asarray(label) for label in labels], dtype=np.int64)

    def _build_index(self) -> None:
        spans: dict[str, list[tuple[int, int]]] = {name: [] for name in self._extensions()}
        keys, shards = [], []
        for number, path in enumerate(self.shards):
            if not is_indexable(path):
                raise ValueError(f'{path} allows no random access; evaluation needs local, uncompressed tar files')
            try:
                with open(path, 'rb', buffering=0) as file:
                    for sample in walk_samples(file):
                        if sample.problem:
                            raise sample.problem
                        self._check(sample.files, f'{path}: sample {sample.key}')
                        keys.append(sample.key)
                        shards.append(number)
                        for name, column in spans.items():
                            column.append(sample.files.get(name, (-1, -1)))
            except BadSample as bad:
                raise ValueError(f'{path} cannot be evaluated: {bad}') from bad
        if not keys:
            raise ValueError(f'no sample in {", ".join(self.shards[:5])}')
        self._keys = StringColumn(keys)
        self._shard = np.array(shards, dtype=np.int32)
        self._spans = {name: np.array(column, dtype=np.int64) for name, column in spans.items()}

    def _extensions(self) -> set[str]:
        captions = self._captions.keys if self._captions else []
        extras = {key for key in (self._label_key, self._mask_key) if key}
        return {*self._image_keys, *(key.partition(':')[0] for key in captions), *extras}

    def _check(self, files: dict[str, Any], where: str) -> None:
        for key in (self._label_key, self._mask_key):
            if key is not None and key not in files:
                raise ValueError(f'{where} has no {key!r}, but {listed(files)}; correct label_key or mask_key')
        if not any(key in files for key in self._image_keys):
            raise ValueError(f'{where} has no {" or ".join(self._image_keys)}, but {listed(files)}; set image_keys')
        captions = [key.partition(':')[0] for key in self._captions.keys] if self._captions else []
        if captions and not any(key in files for key in captions):
            raise ValueError(f'{where} has no {" or ".join(captions)}, but {listed(files)}; set caption_key')

    def _key(self, index: int) -> str:
        return f'{shard_name(self.shards[self._shard[index]])}/{self._keys[index]}'

    def _read(self, index: int, images: bool = True) -> dict[str, bytes]:
        with open(self.shards[self._shard[index]], 'rb', buffering=0) as file:
            spans = {name: column[index] for name, column in self._spans.items() if column[index, 0] >= 0}
            if not images:
                spans = {name: span for name, span in spans.items() if name not in self._image_keys}
            return {name: read_span(file, (int(span[0]), int(span[1]))) for name, span in spans.items()}

    def _image(self, files: dict[str, bytes]) -> bytes:
        return next(files[key] for key in self._image_keys if key in files)

    def _label(self, data: bytes) -> int | Tensor:
        if self._label_key == 'npy':
            try:
                return torch.from_numpy(np.load(io.BytesIO(data), allow_pickle=False).astype(np.int64))
            except MemoryError:
                raise
            except Exception as error:  # NumPy's reader raises ValueError, EOFError, SyntaxError, tokenize errors, ...
                raise BadSample('unknown_label', f'no array of NumPy: {type(error).__name__}: {error}') from error
        return self._read_label(data)
