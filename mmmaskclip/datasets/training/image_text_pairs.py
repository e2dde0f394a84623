"""Images with captions in a list, a folder, parquet or a Hugging Face data set on disk."""

import logging
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmmaskclip.datasets.sampling import BadSample, EpochState, content_hash, stable_hash
from mmmaskclip.datasets.text_files import read_lines
from mmmaskclip.datasets.training.annotation_files import CaptionTable, detect_format, read_pairs
from mmmaskclip.datasets.training.captions import choose_caption
from mmmaskclip.datasets.training.folders_and_tables import ArrowFolder, image_bytes
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image, decode_tensor
from mmmaskclip.datasets.transforms.tokenize import make_tokenizer
from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import DATASETS

# So many bad images in a row mean a wrong folder.
_MOST_BAD_IN_A_ROW = 1000
_MOST_JUMPS = 20


@DATASETS.register_module()
class ImageTextPairs(Dataset):
    """Image-text pairs from image files and a list of captions; one sample is an image with all of its captions.

    Training chooses one caption at random. An image that cannot be used is reported in ``skipped`` and replaced by
    another one, which the sample's seed picks. Rows without image or caption are reported with the first image of the
    epoch. Testing (``test_mode``) returns all captions in the order of the file; a row or an image that cannot be used
    is an error.

    Args:
        ann_file: The list; a folder for ``folder``, ``images``, ``parquet`` and ``arrow``.
        views: Transforms by view, see :class:`~mmmaskclip.datasets.transforms.views.ImageViews`.
        data_root: Folder that the paths in the list are relative to. Default: the folder of ``ann_file``.
        format: ``csv``, ``tsv``, ``jsonl``, ``coco``, ``karpathy``, ``folder`` (images with same-named ``.txt`` or
            ``.json``), ``images`` (a folder of images without captions: samples have no ``tokens``), ``parquet`` (that
            names image files) or ``arrow`` (``datasets``' ``save_to_disk``). Default: from the name of the file.
        image_key: Column or field of the image (all but coco, karpathy, folder and images).
        caption_key: Column or field of the caption, or several (likewise).
        split: Splits to take (karpathy).
        test_mode: For evaluation.
        max_pixels: Larger images are skipped.
        context_length: Longest caption in tokens.
        tokenizer: Tokenizer of another vocabulary than CLIP's, see
            :func:`~mmmaskclip.datasets.transforms.tokenize.make_tokenizer`.
        shrink_to: Decode large JPEGs at a fraction of their size, see
            :func:`~mmmaskclip.datasets.transforms.decode.decode_image`. Default: never.
        as_tensors: Give the transforms of training uint8 tensors (3, H, W) in place of PIL images: faster, see
            docs/data.md, but torchvision resizes tensors with rounded weights, so that some pixels differ by 1.
            Defaults to False.
        identify_images: Add ``image_id``, a hash of the image's file, to each sample, for a contrast with
            ``duplicates``. Defaults to False.
        leave_out: File with one name of an image per line, as in the list; these images are not used. Default: none.

    Raises:
        ValueError: If the list is not of its format, or names no image with a caption; in ``test_mode`` also if a row
            cannot be used.
    """

    # mmengine's loops warn about datasets without metainfo.
    metainfo: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        ann_file: str,
        views: dict[str, list[Any]],
        data_root: str | None = None,
        format: str | None = None,
        image_key: str = 'filepath',
        caption_key: str | Sequence[str] = 'caption',
        split: str | Sequence[str] | None = None,
        test_mode: bool = False,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        context_length: int = 77,
        tokenizer: dict | None = None,
        shrink_to: int | None = None,
        identify_images: bool = False,
        as_tensors: bool = False,
        leave_out: str | None = None,
    ) -> None:
        self.ann_file = ann_file
        near = ann_file if os.path.isdir(ann_file) else os.path.dirname(ann_file)
        self.data_root = near if data_root is None else data_root
        bad: list[BadSample] = []
        format = format or detect_format(ann_file)
        rows = read_pairs(ann_file, format, image_key, caption_key, split, bad)
        if leave_out is not None:
            left_out = {line.rstrip('\n') for line in read_lines(leave_out)}
            rows = (row for row in rows if row[0] not in left_out)
        self._table = CaptionTable(rows)
        if not len(self._table) or (test_mode and bad):
            what = (
                'lists no image with a caption' if not len(self._table) else f'has {len(bad)} rows that cannot be used'
            )
            where = ''.join(f'\n  {problem}' for problem in bad[:5])
            # A caption must not be left out: the next one would take its place, and protocols count the first five.
            raise ValueError(f'{ann_file} ({format}) {what}; set image_key and caption_key, or correct it:{where}')
        if bad:
            causes = ', '.join(f'{cause} {count}' for cause, count in Counter(row.cause for row in bad).most_common())
            text = f'{ann_file}: {len(bad)} rows cannot be used ({causes}); the first: {bad[0]}'
            print_log(text, logger='current', level=logging.WARNING)
        self._bad_rows = [problem.record('', os.path.basename(ann_file)) for problem in bad]
        self._captionless = format == 'images'
        self._arrow = ArrowFolder(ann_file) if format == 'arrow' else None
        self._image_key = image_key
        self._views = ImageViews(views)
        self._test_mode = test_mode
        self._max_pixels, self._shrink_to = max_pixels, shrink_to
        self._decode = decode_tensor if as_tensors else decode_image
        self._tokenize = make_tokenizer(tokenizer, context_length)
        self._identify_images = identify_images
        self._state = EpochState()

    def __len__(self) -> int:
        """Number of images, over all ranks."""
        return len(self._table)

    @property
    def num_captions(self) -> int:
        """Captions of all images."""
        return self._table.num_captions

    def row(self, index: int) -> tuple[str, list[str]]:
        """Return name and captions of an image, without reading the file."""
        return self._table.paths[index], self._table.captions(index)

    def raw(self, index: int) -> tuple[str, bytes, list[str]]:
        """Return name, file content and captions of an image.

        Raises:
            BadSample: ``missing_image``.
        """
        name = self._table.paths[index]
        if self._arrow is not None:
            return name, self._arrow.image(name, self._image_key), self._table.captions(index)
        return name, image_bytes(name, self.data_root), self._table.captions(index)

    def begin_epoch(self, epoch: int, seed: int, batch_size: int = 0, start_batch: int = 0) -> None:
        """Set epoch and seed, from which all random choices follow; persistent workers see them too.

        Args:
            epoch: Counted from 0.
            seed: The same on all ranks.
            batch_size: Unused, because the sampler chooses the samples.
            start_batch: Unused, likewise.
        """
        self._state.set(epoch=epoch, seed=seed)

    def preflight(self) -> None:
        """Try to read some images, spread over the list.

        Raises:
            ValueError: If none of them can be used.
        """
        problems = []
        for index in np.unique(np.linspace(0, len(self) - 1, 16).astype(int)):
            try:
                self._image(int(index))
                return
            except BadSample as bad:
                problems.append(bad)
        raise ValueError(
            f'none of {len(problems)} tried images of {self.ann_file} can be used; {problems[0]}. '
            f'Paths are relative to data_root={self.data_root!r}.'
        )

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._test_mode:
            try:
                return self._test_sample(index)
            except BadSample as bad:
                raise ValueError(f'{self._table.paths[index]} of {self.ann_file} cannot be evaluated: {bad}') from bad
        state = self._state.get()
        seed = stable_hash(state['seed'], state['epoch'], index)
        # Rows without an image have no index; they are reported with the first one.
        skipped = list(self._bad_rows) if index == 0 else []
        current = index
        for step in range(1, min(len(self), _MOST_BAD_IN_A_ROW) + _MOST_JUMPS):
            try:
                return {**self._train_sample(current, seed), 'skipped': skipped}
            except BadSample as bad:
                last = bad
                if step == 1:
                    # Only this one: a bad substitute is reported at its own index.
                    skipped.append(bad.record(self._table.paths[current], os.path.basename(self.ann_file)))
            # Substitutes come from anywhere, because neighbours in the list often share the same lost folder. After
            # many jumps they come one by one, so that even a single good image is met.
            far = stable_hash(seed, 'substitute', step) if step < _MOST_JUMPS else 1
            current = (current + far) % len(self)
        raise RuntimeError(
            f'none of {min(step, len(self))} tried images of {self.ann_file} can be used; '
            f'e.g. {last.cause}: {last.detail}'
        )

    def _train_sample(self, index: int, seed: int) -> dict[str, Any]:
        data = self.raw(index)[1]
        image = self._decode(data, self._max_pixels, self._shrink_to)
        sample = {**self._views(image, seed), 'seed': seed, 'key': self._table.paths[index]}
        if self._identify_images:
            sample['image_id'] = content_hash(data)
        if self._captionless:
            return sample
        (tokens,) = self._tokenize([choose_caption(self._table.captions(index), seed)])
        return {**sample, 'tokens': tokens}

    def _test_sample(self, index: int) -> dict[str, Any]:
        tokens = self._tokenize(self._table.captions(index))
        return {**self._views(self._image(index), 0), 'tokens': tokens, 'key': self._table.paths[index]}

    def _image(self, index: int) -> Any:
        return decode_image(self.raw(index)[1], self._max_pixels, self._shrink_to)
