"""Signs of life that the processes of a run exchange through the store, so that the death of one ends the others."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import Any

import torch.distributed as dist

from mmmaskclip.utils.store import SILENCE

_DEATH = 'mmmaskclip/death'
# Reading the signs of all ranks costs one question to the store for each.
_ALL_SIGNS_EVERY = 10.0


class Peers:
    """The signs of life of all ranks, and the notice of a death.

    Each rank checks the processes of its own machine: the operating system shows at once when one has ended. Rank 0
    also checks that all other ranks keep sending signs of life, in case a whole machine is gone. The rank that finds a
    death writes a notice to the store, and every rank reads the notice.

    Args:
        store: A connection to the process group's store that nothing else uses.
        rank: This process's.
        world_size: Number of processes.
    """

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._host = socket.gethostname()
        self._here: dict[int, int] = {}
        self._heard: dict[int, tuple[dict[str, Any], float]] = {}
        self._next_signs = 0.0
        self._watched = range(world_size) if rank == 0 else _ranks_of_this_machine(rank, world_size)

    def publish(self, **sign: Any) -> None:
        """Send a sign of life. A rank that ends normally sends ``ended=True`` in its last sign."""
        sign |= {'at': time.time(), 'host': self._host, 'pid': os.getpid()}
        self._store.set(self._key(self._rank), json.dumps(sign))

    def signs(self, ranks: range | None = None) -> dict[int, dict[str, Any]]:
        """The last signs of the other ranks, or of some of them."""
        others = (rank for rank in ranks or range(self._world_size) if rank != self._rank)
        keys = {rank: self._key(rank) for rank in others}
        return {rank: json.loads(self._store.get(key)) for rank, key in keys.items() if self._store.check([key])}

    def report_death(self, text: str) -> None:
        """Write the notice, unless there is one."""
        if not self._store.check([_DEATH]):
            self._store.set(_DEATH, text)

    def look(self) -> str | None:
        """Look for a death; returns the notice, if there is one."""
        now = time.monotonic()
        if now >= self._next_signs:
            self._next_signs = now + _ALL_SIGNS_EVERY
            self._hear(now)
        for rank, pid in self._here.items():
            if not _exists(pid) and not self._ended(rank):
                self.report_death(
                    f'rank {rank} (process {pid} on {self._host}) is gone without a word: it was killed, perhaps for '
                    'lack of memory (see dmesg)'
                )
        return self._store.get(_DEATH).decode() if self._store.check([_DEATH]) else None

    def _hear(self, now: float) -> None:
        for rank, sign in self.signs(self._watched).items():
            # Only a process that this rank has seen: in another container, process ids mean other processes.
            if sign['host'] == self._host and _exists(sign['pid']):
                self._here.setdefault(rank, sign['pid'])
            before, since = self._heard.get(rank, (None, now))
            self._heard[rank] = (sign, since if sign == before else now)
            silent = now - self._heard[rank][1]
            if self._rank == 0 and silent > SILENCE and not sign.get('ended'):
                self.report_death(
                    f'rank {rank} (process {sign["pid"]} on {sign["host"]}) has given no sign of life for '
                    f'{silent:.0f} s: its machine is gone or not reached'
                )

    def _ended(self, rank: int) -> bool:
        return bool(json.loads(self._store.get(self._key(rank))).get('ended'))

    @staticmethod
    def _key(rank: int) -> str:
        return f'mmmaskclip/watchdog/{rank}'


def _ranks_of_this_machine(rank: int, world_size: int) -> range:
    """By torchrun's variables, because it numbers the ranks of a machine in a row; without them all ranks, if few."""
    here = os.environ.get('LOCAL_WORLD_SIZE')
    if here is None:
        return range(world_size if world_size <= 64 else 1)
    first = rank - int(os.environ.get('LOCAL_RANK', 0))
    return range(first, first + int(here))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a child that its parent has not waited for
        with open(f'/proc/{pid}/stat', encoding='utf-8') as stat:
            return stat.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return True
