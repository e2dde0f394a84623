"""Several sources of training data, mixed exactly in every batch."""

from collections.abc import Iterator
from typing import Any, ClassVar, cast

from torch.utils.data import IterableDataset, get_worker_info

from mmmaskclip.datasets.sampling import EpochState, stable_hash
from mmmaskclip.datasets.training.class_caption_shards import ClassCaptionShards
from mmmaskclip.datasets.training.image_text_shards import ImageTextShards
from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class MixedSources(IterableDataset):
    """Streams batches that each hold a fixed number of samples of every source.

    The mixing ratio is exact in every batch, not on average. The first source sets the length of an epoch. The other
    sources restart as often as needed; their position is counted over the whole run. Therefore the order depends only
    on (seed, epoch, rank, worker), the end of an epoch cuts no source short, and a resumed run reads the samples that
    the uninterrupted run would have read.

    Within a batch the sources follow each other in the order of the config. Every sample carries its ``source``.
    Image-text pairs have no class; their ``label`` is -1. Labels of different sources never coincide: the classes of a
    labelled source are numbered after those of the sources before it. Sources with the same classes belong into one
    source, as a list of urls.

    The interface is that of :class:`ImageTextShards`.

    Args:
        sources: By name, ``dict(dataset=dict(type=..., ...), per_batch=n)``: the config of an ``ImageTextShards`` or
            ``ClassCaptionShards``, and the number of its samples in each rank's batch. All sources make the same views.

    Raises:
        ValueError: If there is no source, a source is malformed or of another type, or the views differ; in
            :meth:`full_init`, if a source does not fill one batch.
    """

    # mmengine's loops warn about datasets without metainfo.
    metainfo: ClassVar[dict[str, Any]] = {}

    def __init__(self, sources: dict[str, dict[str, Any]]) -> None:
        if not sources:
            raise ValueError('sources is empty: give dict(name=dict(dataset=dict(...), per_batch=n), ...)')
        self.datasets: dict[str, ImageTextShards] = {}
        self.per_batch: dict[str, int] = {}
        self._first_label: dict[str, int] = {}
        next_label = 0
        for name, source in sources.items():
            if set(source) != {'dataset', 'per_batch'} or source['per_batch'] < 1:
                raise ValueError(f'source {name!r} must be dict(dataset=dict(...), per_batch=1 or more), got {source}')
            dataset = DATASETS.build(source['dataset']) if isinstance(source['dataset'], dict) else source['dataset']
            if not isinstance(dataset, ImageTextShards):
                raise ValueError(
                    f'source {name!r} is a {type(dataset).__name__}; only ImageTextShards and ClassCaptionShards can '
                    'be read from any batch of any epoch on'
                )
            self.datasets[name], self.per_batch[name] = dataset, source['per_batch']
            self._first_label[name] = next_label
            next_label += dataset.num_classes if isinstance(dataset, ClassCaptionShards) else 0
        self._state = EpochState()
        self._check_views()

    def _check_views(self) -> None:
        views = {name: sorted(dataset.view_names) for name, dataset in self.datasets.items()}
        first = next(iter(views.values()))
        for name, names in views.items():
            if names != first:
                raise ValueError(f'source {name!r} makes the views {names}, but the first one {first}: make them equal')

    def full_init(self) -> None:
        """Count the samples of all sources. All ranks must call it (collective)."""
        for name, dataset in self.datasets.items():
            dataset.full_init()
            if not self._batches(name):
                raise ValueError(
                    f'source {name!r} has {len(dataset)} samples per rank, fewer than per_batch={self.per_batch[name]}'
                    ': lower it, or use fewer processes'
                )

    def _batches(self, name: str) -> int:
        return len(self.datasets[name]) // self.per_batch[name]

    @property
    def batch_size(self) -> int:
        """Samples in a batch of one rank, all sources together."""
        return sum(self.per_batch.values())

    def __len__(self) -> int:
        """Samples of each rank in an epoch, all sources together: a whole number of batches."""
        self.full_init()
        return self._batches(next(iter(self.datasets))) * self.batch_size

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Set the position at which the next pass over the loader starts, see :meth:`ImageTextShards.begin_epoch`.

        Raises:
            ValueError: If ``batch_size`` is not the sum of ``per_batch``.
        """
        if batch_size != self.batch_size:
            parts = ' + '.join(f'{count} {name}' for name, count in self.per_batch.items())
            raise ValueError(
                f'train_dataloader.batch_size={batch_size}, but a batch of the sources has {parts} = '
                f'{self.batch_size}: make them equal'
            )
        batches = len(self) // batch_size
        if not 0 <= start_batch <= batches:
            raise ValueError(f'start_batch={start_batch}, but an epoch has {batches} batches')
        self._state.set(begun=1, epoch=epoch, seed=seed, batch_size=batch_size, start_batch=start_batch)

    def preflight(self) -> None:
        """Check the first sample of every shard of every source."""
        for name, dataset in self.datasets.items():
            try:
                dataset.preflight()
            except ValueError as error:
                raise ValueError(f'source {name!r}: {error}') from error

    def __iter__(self) -> Iterator[dict[str, Any]]:
        state = self._state.get()
        if not state['begun']:
            raise RuntimeError('call dataset.begin_epoch(epoch, seed, batch_size) before iterating over the loader')
        return self._samples(state)

    def _samples(self, state: dict[str, int]) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        worker_id, num_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        batches = len(self) // self.batch_size
        # Batches are numbered over the whole run. The loader takes batches from its workers in turn.
        first = state['epoch'] * batches + state['start_batch'] + worker_id
        sources = [self._source(name, first, num_workers, state['seed']) for name in self.datasets]
        for _ in range(state['start_batch'] + worker_id, batches, num_workers):
            for source, count in zip(sources, self.per_batch.values(), strict=True):
                for _ in range(count):
                    yield next(source)

    def _source(self, name: str, first: int, step: int, seed: int) -> Iterator[dict[str, Any]]:
        """Samples of the batches ``first``, ``first + step`` and so on of one source, over all epochs of the source."""
        dataset, per_batch, batches = self.datasets[name], self.per_batch[name], self._batches(name)
        # Shards of two sources may have the same names: without the source's name their samples would share seeds.
        seed = stable_hash(seed, 'source', name)
        batch = first
        while True:
            epoch, start = divmod(batch, batches)
            # As worker 0 of `step` workers, starting here: this batch, then every step-th.
            for sample in dataset.stream(epoch, seed, per_batch, start, worker=0, num_workers=step):
                yield self._named(name, sample)
            batch += step * len(range(start, batches, step))

    def _named(self, name: str, sample: dict[str, Any]) -> dict[str, Any]:
        label = cast(int, sample.get('label', -1))
        sample['label'] = label if label < 0 else self._first_label[name] + label
        sample['source'] = name
        sample['key'] = f'{name}/{sample["key"]}'
        sample['skipped'] = [record | {'shard': f'{name}/{record["shard"]}'} for record in sample['skipped']]
        return sample
