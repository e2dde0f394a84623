"""A list of strings in two arrays, which workers share without copies."""

from array import array
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np


class StringColumn(Sequence[str]):
    """Many strings in two arrays.

    A list of a million strings is a million Python objects. Their reference counts make every worker copy the memory
    that it shared with the training process, page by page.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        data, ends = bytearray(), array('q', [0])
        for string in strings:
            data += string.encode('utf-8', 'surrogatepass')
            ends.append(len(data))
        self._data = np.frombuffer(bytes(data), dtype=np.uint8)
        self._ends = np.array(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f'{index} of {len(self)} strings')
        begin, end = self._ends[index % len(self)], self._ends[index % len(self) + 1]
        return self._data[begin:end].tobytes().decode('utf-8', 'surrogatepass')
