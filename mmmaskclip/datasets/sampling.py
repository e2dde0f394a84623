"""What every dataset shares: the seed of a sample, the random state it stands for, and samples that cannot be used."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

# Causes that lose no sample: a shard was read again, or samples are repeated in an epoch.
NOTES = ('retried_shard', 'repeated_sample')


class BadSample(Exception):
    """A sample that cannot be used, through the fault of the data, never of the code.

    Args:
        cause: One of a small set of names under which such samples are counted, e.g. ``truncated_image``.
        detail: Details for the list of bad samples.
    """

    def __init__(self, cause: str, detail: str = '') -> None:
        super().__init__(f'{cause}: {detail}' if detail else cause)
        self.cause = cause
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.cause, self.detail)

    def record(self, key: str, shard: str = '', samples: int = 1) -> dict[str, Any]:
        """Return the entry of ``sample['skipped']`` for this sample, or for several samples of a shard."""
        record = {'cause': self.cause, 'key': key, 'shard': shard, 'detail': self.detail[:300]}
        return record if samples == 1 else {**record, 'samples': samples}


def lost_samples(records: Iterable[dict[str, Any]]) -> int:
    """Count the samples that the records of ``sample['skipped']`` report as lost; :data:`NOTES` lose none."""
    return sum(record.get('samples', 1) for record in records if record['cause'] not in NOTES)


def describe(error: Exception) -> str:
    """Put an error of a reader in one line, without the objects that webdataset adds to it."""
    text = error.strerror if isinstance(error, OSError) else None
    reason = text or (error.args[0] if error.args else '')
    return f'{type(error).__name__}: {reason}'


def stable_hash(*parts: int | str) -> int:
    """Hash numbers and strings to an int of 63 bits, the same in every process, on every machine."""
    # Python's own hash of strings differs between processes.
    digest = blake2b('\0'.join(map(str, parts)).encode('utf-8', 'surrogatepass'), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def content_hash(data: bytes) -> int:
    """Hash the content of a file to an int of 63 bits, the same in every process, on every machine."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), 'little') >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with the random generators of Python, NumPy and torch (CPU) set from ``seed``, then restores them.

    In a loader's worker nothing is restored, because restoring takes most of the time and every draw there is seeded.
    ``torch.manual_seed`` is avoided, because it also queues a call for every accelerator.

    Args:
        seed: Non-negative int of at most 63 bits.
    """
    worker = get_worker_info() is not None
    states = None if worker else (random.getstate(), np.random.get_state(), torch.get_rng_state())
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        if states is not None:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])


class EpochState:
    """Where a run stands in its data: set by the training process, read by the loader's workers.

    It lives in shared memory, because persistent workers got their copy of the dataset before the first epoch.
    """

    _FIELDS = ('begun', 'epoch', 'seed', 'batch_size', 'start_batch', 'rank', 'world_size', 'warned')

    def __init__(self) -> None:
        self._values = torch.zeros(len(self._FIELDS), dtype=torch.int64).share_memory_()

    def set(self, **values: int) -> None:
        """Set some of the fields."""
        for name, value in values.items():
            self._values[self._FIELDS.index(name)] = value

    def get(self) -> dict[str, int]:
        """Read all fields."""
        return dict(zip(self._FIELDS, self._values.tolist(), strict=True))
