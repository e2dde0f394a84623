"""Image-text pairs in tar shards, as img2dataset writes them for LAION and others."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, ClassVar

from mmengine.dist import get_dist_info
from mmengine.logging import print_log
from torch.utils.data import IterableDataset, get_worker_info

from mmmaskclip.datasets.columns import StringColumn
from mmmaskclip.datasets.sampling import BadSample, EpochState, content_hash, stable_hash
from mmmaskclip.datasets.training.captions import CaptionReader, CaptionSource, choose_caption, listed
from mmmaskclip.datasets.training.preflight import check_shards
from mmmaskclip.datasets.training.seen_counts import SeenCounts
from mmmaskclip.datasets.training.shard_counts import (
    ShardCounts,
    check_same_shards,
    count_samples,
    read_counts,
)
from mmmaskclip.datasets.training.shard_streams import (
    CountedRange,
    RawSample,
    SequentialSource,
    ShuffledReader,
    permuted_shards,
)
from mmmaskclip.datasets.training.shard_urls import expand_urls, is_indexable, shard_name
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image, decode_tensor
from mmmaskclip.datasets.transforms.tokenize import make_tokenizer
from mmmaskclip.datasets.transforms.views import ImageViews
from mmmaskclip.registry import DATASETS

IMAGE_KEYS = ('jpg', 'jpeg', 'png', 'webp')


@DATASETS.register_module()
class ImageTextShards(IterableDataset):
    """Streams image-text pairs from tar shards, in an order that is a pure function of (seed, epoch, rank, worker).

    In each epoch the shards are permuted and laid end to end. Each stream (one per rank and worker) reads its own
    contiguous range of samples through a shuffle buffer. So every sample is read once, for any number of shards, except
    for the rest that does not fill a batch on all ranks. The ranges need the number of samples in each shard: the
    dataset counts them once, by the headers, and keeps them in a small index. Shards that are not local tar files need
    ``num_samples``. If that is a total, streams read whole shards, or every k-th sample if there are fewer shards than
    streams.

    Every rank gets the same number of full batches. A sample that cannot be used is replaced by another one of its
    stream, whose ``skipped`` reports it. All randomness of a sample (crop, choice of caption) follows from its
    ``seed``.

    Use it with ``sampler=None``, ``drop_last=True`` and ``collate_fn=dict(type='collate_image_text')``, and call
    :meth:`begin_epoch` before each pass over the loader.

    Args:
        urls: A path or url with braces or wildcards, or a list of them: local tar files, or anything that
            ``webdataset.gopen`` opens (``pipe:aws s3 cp ... -``, ``https://...``).
        views: Transforms by view, see :class:`~mmmaskclip.datasets.transforms.views.ImageViews`.
        caption_key: Place of the captions, see :class:`~.captions.CaptionReader`. Of several, one is chosen at random
            each time.
        image_keys: Extensions of the image, in order of preference.
        num_samples: Samples in all shards, roughly; or the source of the number of each shard: a json file
            ``{"00000.tar": 9876, ...}`` or a folder of img2dataset's ``00000_stats.json``. Default: they are counted.
        shuffle_buffer: Samples per stream, as encoded bytes, among which the next is drawn.
        max_pixels: Larger images are skipped without decoding.
        context_length: Longest caption in tokens.
        tokenizer: Tokenizer of another vocabulary than CLIP's, see
            :func:`~mmmaskclip.datasets.transforms.tokenize.make_tokenizer`.
        shrink_to: Decode large JPEGs at a fraction of their size, see
            :func:`~mmmaskclip.datasets.transforms.decode.decode_image`. Default: never.
        as_tensors: Give the transforms uint8 tensors (3, H, W) in place of PIL images: faster, see docs/data.md, but
            torchvision resizes tensors with rounded weights, so that some pixels differ by 1. Defaults to False.
        identify_images: Add ``image_id``, a hash of the image's file, to each sample, for a contrast with
            ``duplicates``. Defaults to False.
        index_dir: Folder of the index. Default: beside the shards, or in the user's cache folder.
    """

    # mmengine's loops warn about datasets without metainfo.
    metainfo: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        urls: str | Sequence[str],
        views: dict[str, list[Any]],
        caption_key: str | Sequence[str] = 'txt',
        image_keys: Sequence[str] = IMAGE_KEYS,
        num_samples: int | str | None = None,
        shuffle_buffer: int = 2000,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        context_length: int = 77,
        tokenizer: dict | None = None,
        shrink_to: int | None = None,
        index_dir: str | None = None,
        identify_images: bool = False,
        as_tensors: bool = False,
    ) -> None:
        self.shards = StringColumn(expand_urls(urls))
        self.captions: CaptionSource = CaptionReader(caption_key)
        self.image_keys = tuple(image_keys)
        self._views = ImageViews(views)
        self.view_names = tuple(views)
        self._num_samples = num_samples
        self.shuffle_buffer = max(1, shuffle_buffer)
        self._max_pixels = max_pixels
        self._shrink_to = shrink_to
        self._as_tensors = as_tensors
        self._tokenize = make_tokenizer(tokenizer, context_length)
        self.index_dir = index_dir
        self._identify_images = identify_images
        self._counts = read_counts(num_samples, self.shards) if isinstance(num_samples, str) else None
        self._state = EpochState()
        self._ready = False
        unknown = [url for url in self.shards if not is_indexable(url)]
        if num_samples is None and unknown:
            raise ValueError(
                f'the samples of {unknown[0]!r} cannot be counted without reading all of it (it is remote, a pipe, or '
                'compressed); give num_samples: their total, or a file with the number of each shard'
            )

    def full_init(self) -> None:
        """Count the samples at the first call. Collective: every rank calls it, through the Runner or ``len``."""
        if self._ready:
            return
        rank, world_size = get_dist_info()
        self._state.set(rank=rank, world_size=world_size)
        check_same_shards(self.shards)
        if self._num_samples is None:
            self._counts = count_samples(self.shards, self.index_dir)
        if self._counts is not None and self.total_samples == 0:
            found = next((detail for _, detail, _ in self._counts.damage.values()), 'no sample in it')
            raise ValueError(f'no sample in any of {len(self.shards)} shards; {self.shards[0]}: {found}')
        self._ready = True

    @property
    def total_samples(self) -> int:
        """Samples in all shards."""
        return int(self._num_samples or 0) if self._counts is None else self._counts.total

    def __len__(self) -> int:
        """Samples of each rank in an epoch, so that ``len(dataloader)`` with ``drop_last`` is the number of batches."""
        self.full_init()
        return self.total_samples // self._state.get()['world_size']

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Set the position of the next pass over the loader; persistent workers see it too.

        Args:
            epoch: Counted from 0.
            seed: The same on all ranks.
            batch_size: Per rank, as in the loader.
            start_batch: Batches of this rank to leave out, for a resume in the middle of an epoch. None of their images
                is decoded. The remaining batches are exactly those of an uninterrupted run, as long as the number of
                ranks and workers and the batch size are unchanged.
        """
        batches = len(self) // batch_size
        if batches == 0:
            raise ValueError(
                f'{self.total_samples} samples do not fill one batch of {batch_size} on each of '
                f'{self._state.get()["world_size"]} ranks; lower the batch size'
            )
        if not 0 <= start_batch <= batches:
            raise ValueError(f'start_batch={start_batch}, but an epoch has {batches} batches')
        self._state.set(begun=1, epoch=epoch, seed=seed, batch_size=batch_size, start_batch=start_batch)

    def preflight(self) -> None:
        """Check the first sample of every shard, see :func:`~mmmaskclip.datasets.training.preflight.check_shards`."""
        check_shards(self.shards, self.image_keys, self.captions)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        state = self._state.get()
        if not state['begun']:
            raise RuntimeError('call dataset.begin_epoch(epoch, seed, batch_size) before iterating over the loader')
        worker = get_worker_info()
        return self.stream(
            state['epoch'],
            state['seed'],
            state['batch_size'],
            state['start_batch'],
            worker.id if worker else 0,
            worker.num_workers if worker else 1,
        )

    def stream(
        self, epoch: int, seed: int, batch_size: int, start_batch: int, worker: int, num_workers: int
    ) -> Iterator[dict[str, Any]]:
        """Yield the samples of one worker of this rank in one epoch; :meth:`begin_epoch` has no effect on them.

        Args:
            epoch: As in :meth:`begin_epoch`, like the next three.
            seed: The run's.
            batch_size: Per rank.
            start_batch: Batches of this rank to leave out.
            worker: Delivers the batches ``start_batch + worker``, ``start_batch + worker + num_workers`` and so on.
            num_workers: Workers of this rank.
        """
        asked = dict(epoch=epoch, seed=seed, batch_size=batch_size, start_batch=start_batch)
        return _Stream(self, {**self._state.get(), **asked}, worker, num_workers).samples()

    @property
    def counts(self) -> ShardCounts | None:
        """Samples in each shard; None if only their total is given."""
        return self._counts

    def seen_counts(self) -> SeenCounts:
        """Counts of shards that some stream has read to their end."""
        return SeenCounts(self.shards, self.index_dir)

    def warn_about_streams(self, num_streams: int) -> None:
        """Warn once per run that few shards make reading slow."""
        if len(self.shards) >= num_streams or self._state.get()['warned']:
            return
        self._state.set(warned=1)
        how = (
            'each reads its own part of them' if self._counts is not None else 'each reads a whole one and keeps a part'
        )
        print_log(
            f'{len(self.shards)} shards for {num_streams} streams (ranks x workers): {how}. Training is correct, but '
            'reading is slower; more shards or fewer workers avoid it.',
            logger='current',
            level=logging.WARNING,
        )

    def make_sample(self, raw: RawSample, seed: int) -> dict[str, Any]:
        """Decode and transform one sample.

        Raises:
            BadSample: If the sample cannot be used.
        """
        if raw.error is not None:
            raise raw.error
        data = next((raw.files[key] for key in self.image_keys if key in raw.files), None)
        if data is None:
            raise BadSample('missing_image', f'no {" or ".join(self.image_keys)} among {listed(raw.files)}')
        caption = choose_caption(self.captions(raw.files), seed)
        decode = decode_tensor if self._as_tensors else decode_image
        image = decode(data, self._max_pixels, self._shrink_to)
        (tokens,) = self._tokenize([caption])
        sample = {**self._views(image, seed), 'tokens': tokens, 'seed': seed, 'key': self.key(raw)}
        return {**sample, 'image_id': content_hash(data)} if self._identify_images else sample

    def key(self, raw: RawSample) -> str:
        """The readable name of a sample."""
        return f'{shard_name(self.shards[raw.shard])}/{raw.key}'


class _Stream:
    """One pass of one (rank, worker) over its part of the data."""

    def __init__(self, dataset: ImageTextShards, state: dict[str, int], worker: int, num_workers: int) -> None:
        self._dataset, self._seed, self._epoch = dataset, state['seed'], state['epoch']
        batch_size, start, rank = state['batch_size'], state['start_batch'], state['rank']
        batches = len(dataset) // batch_size
        # The loader asks its workers for batches in turn, beginning with worker 0. After a restart at batch s, worker 0
        # must therefore continue the work of worker s % n.
        role = (worker + start) % num_workers
        quota = [len(range(i, batches, num_workers)) for i in range(num_workers)]
        self._total = quota[role] * batch_size
        self._skip = len(range(role, start, num_workers)) * batch_size
        self._stream = rank * num_workers + role
        num_streams = state['world_size'] * num_workers
        order = permuted_shards(len(dataset.shards), self._seed, self._epoch)
        self._source: CountedRange | SequentialSource
        if dataset.counts is not None:
            first = (rank * batches + sum(quota[:role])) * batch_size
            extensions = {*dataset.image_keys, *(key.partition(':')[0] for key in dataset.captions.keys)}
            self._source = CountedRange(
                dataset.shards, dataset.counts.samples, order, first, first + self._total, extensions
            )
        else:
            self._source = SequentialSource(
                dataset.shards,
                order,
                self._stream,
                num_streams,
                self._total,
                dataset.total_samples / len(dataset.shards),
                dataset.seen_counts(),
            )
        self._bad: set[tuple[int, int]] = set()
        self._skipped: list[dict[str, Any]] = []
        if self._stream == 0 and start == 0 and dataset.counts is not None:
            self._skipped.extend(dataset.counts.records(dataset.shards))
        if rank == 0 and worker == 0:
            dataset.warn_about_streams(num_streams)

    def samples(self) -> Iterator[dict[str, Any]]:
        """Deliver exactly the samples of this stream's full batches."""
        if self._total <= self._skip:
            return
        seed = stable_hash(self._seed, self._epoch, 'buffer', self._stream)
        reader = ShuffledReader(self._source, self._dataset.shuffle_buffer, seed, self._total, self._skip)
        drawn = iter(reader)
        for _ in range(self._total - self._skip):
            raw = next(drawn)
            seed = stable_hash(
                self._seed, self._epoch, raw.shard, shard_name(self._dataset.shards[raw.shard]), raw.index, raw.lap
            )
            # The substitute is another sample of the buffer, not the next one. So one bad image moves no other sample,
            # and a resumed run knows its position without decoding earlier images.
            sample = self._first_good(chain([raw], reader.others(seed)), seed)
            if sample is None:
                sample = self._first_good(self._source.one_lap(), seed)
            if sample is None:
                raise RuntimeError(self._nothing_good())
            sample['skipped'] = self._skipped + self._source.take_events()
            self._skipped = []
            yield sample

    def _first_good(self, candidates: Iterator[RawSample], seed: int) -> dict[str, Any] | None:
        for raw in candidates:
            if (raw.shard, raw.index) in self._bad:
                continue
            try:
                return self._dataset.make_sample(raw, seed)
            except BadSample as bad:
                self._bad.add((raw.shard, raw.index))
                self._skipped.append(bad.record(self._dataset.key(raw), shard_name(self._dataset.shards[raw.shard])))
        return None

    def _nothing_good(self) -> str:
        causes = Counter(record['cause'] for record in self._skipped)
        names = self._source.names()
        example = self._skipped[-1] if self._skipped else {'key': '', 'detail': ''}
        return (
            f'none of the {len(self._bad)} samples in {", ".join(names[:5])}{" ..." if len(names) > 5 else ""} can be '
            f'used: {dict(causes)}; e.g. {example["key"]}: {example["detail"]}. Repair these shards or leave them out.'
        )
