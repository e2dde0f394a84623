"""Ends a process that makes no progress, with the reason, instead of letting it wait for ever."""

from __future__ import annotations

import atexit
import faulthandler
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner

from mmmaskclip.engine.distributed.peers import Peers
from mmmaskclip.utils.exit_codes import HUNG, PEER_DIED
from mmmaskclip.utils.store import own_store

# Nobody else uses it: Slurm sends SIGUSR1 and SIGUSR2 to every process of a job, and SIGABRT would leave core files.
_DUMP_STACKS = signal.SIGVTALRM
# Seconds that the last words of a process may take: the others' answers, the stacks, the error of its own.
_GRACE = 10.0
# A thread works for a Runner as long as one of these functions is on its stack.
_WORK_OF_A_RUNNER = (Runner.train.__code__, Runner.val.__code__, Runner.test.__code__)


class Watchdog:
    """A thread that ends the process when one phase of the work takes longer than its limit.

    The training thread may then be blocked in a read, a collective or a lock, where no exception can reach it. So the
    watchdog itself does the following, in this order: it writes the stacks of all threads and of the data loader's
    workers to ``folder``; it reports on stderr and in the log which rank waited for what, and what the other ranks were
    doing; it kills the workers; it ends the process with exit code 76. A thread that holds Python's global lock (GIL)
    blocks the watchdog as well: then faulthandler dumps the stacks to stderr and ends the process with exit code 1.

    Each rank writes its phase to the store of the process group, so that the others can name a rank that is gone. A
    rank that learns of another's death there ends with exit code 77 after 20 s, unless it raises an error itself
    before. NCCL alone would let it wait for half an hour.

    Args:
        folder: Folder for the stacks, ``hang_rank0.txt`` and so on; created when needed.
        rank: This process's.
        world_size: Number of processes.

    Attributes:
        phase (str): What the process is doing now.
    """

    def __init__(self, folder: str | Path, rank: int = 0, world_size: int = 1) -> None:
        self.phase = 'starting'
        self.file = Path(folder) / f'hang_rank{rank}.txt'
        self._rank, self._world_size = rank, world_size
        self._begin, self._limit = time.monotonic(), float('inf')
        self._tick = 1.0  # seconds between two looks
        self._stop = threading.Event()
        self._peers: Peers | None = None
        if world_size > 1 and (store := own_store()) is not None:
            self._peers = Peers(store, rank, world_size)
        self._death: tuple[str, float] | None = None
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name='watchdog', daemon=True)

    def start(self) -> None:
        """Start to watch this thread, as long as it is inside a Runner's ``train``, ``val`` or ``test``."""
        self._thread.start()
        # A process that ends by SystemExit may be gone before the thread notices.
        atexit.register(self._publish_end)

    def stop(self) -> None:
        """Stop watching, and tell the other ranks that this one ends normally."""
        self._stop.set()
        self._thread.join()
        atexit.unregister(self._publish_end)

    def enter(self, phase: str, limit: float) -> None:
        """Begin a phase of the work, and end the phase before.

        Args:
            phase: Completes the message "rank 1 waited for ...".
            limit: Seconds that the phase may take.
        """
        self.phase, self._begin, self._limit = phase, time.monotonic(), limit
        self._tick = min(self._tick, limit / 4)

    def others(self) -> str:
        """State of the other ranks, one sentence each; empty with one process. Takes up to a few seconds."""
        if self._world_size == 1:
            return ''
        answers: dict[int, str] = {}
        # In a thread, because the machine that keeps the store may be gone.
        thread = threading.Thread(target=self._ask, args=(answers,), daemon=True)
        thread.start()
        thread.join(_GRACE)
        unknown = 'not known: the process that keeps the store of the process group does not answer'
        ranks = (rank for rank in range(self._world_size) if rank != self._rank)
        return ' '.join(f'Rank {rank}: {answers.get(rank, unknown)}.' for rank in ranks)

    def _watch(self) -> None:
        self._publish(waited=0)  # a rank that dies early has been here
        armed = False
        # An error that ends the run calls no hook, and a notebook keeps running after it.
        while not self._stop.wait(self._tick) and self._in_runner():
            waited = time.monotonic() - self._begin
            self._publish(waited=waited)
            self._look_for_deaths()
            if waited > self._limit:
                self._end(waited)
            if self._limit < float('inf'):
                faulthandler.dump_traceback_later(self._limit + _GRACE, file=sys.__stderr__ or 2, exit=True)
                armed = True
        self._publish_end()
        if armed:  # faulthandler has one timer per process, which somebody else may use
            faulthandler.cancel_dump_traceback_later()
        # Workers open the file in advance; it stays empty if no stacks were asked for.
        if self.file.is_file() and not self.file.stat().st_size:
            self.file.unlink()

    def _in_runner(self) -> bool:
        frame = sys._current_frames().get(self._watched)
        while frame is not None and frame.f_code not in _WORK_OF_A_RUNNER:
            frame = frame.f_back
        return frame is not None

    def _publish(self, **sign: Any) -> None:
        if self._peers is None:
            return
        try:
            self._peers.publish(tick=self._tick, phase=self.phase, **sign)
        except RuntimeError:
            self._lose_store()

    def _lose_store(self) -> None:
        self._peers = None
        if self._death is None:
            text = 'the process that keeps the store of the run is gone (rank 0, or torchrun)'
            self._death = text, time.monotonic()

    def _publish_end(self) -> None:
        self._publish(waited=0, ended=True)

    def report_death(self, text: str) -> None:
        """Tell the other ranks that this one ends with an error; they end too, instead of waiting for it."""
        if self._peers is None:
            return
        try:
            self._peers.report_death(f'rank {self._rank} has ended: {text}')
        except RuntimeError:
            self._peers = None

    def _look_for_deaths(self) -> None:
        text = None
        try:
            if self._peers is not None:
                text = self._peers.look()
        except RuntimeError:
            self._lose_store()
        if text is not None and self._death is None:
            self._death = text, time.monotonic()
        # Leave time for an error of this rank, which says more: gloo notices a broken connection by itself.
        if self._death is not None and time.monotonic() - self._death[1] > 2 * _GRACE:
            self._leave(self._death[0])

    def _leave(self, text: str) -> None:
        message = (
            f'Rank {self._rank} of {self._world_size} ends with code {PEER_DIED} during {self.phase}, because {text}. '
            '--resume auto continues from the newest checkpoint.'
        )
        print(message, file=sys.__stderr__, flush=True)
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(PEER_DIED)

    def _ask(self, answers: dict[int, str]) -> None:
        before = self._signs()
        # The clocks of machines differ. So compare two readings: a sign that does not change means a dead rank.
        time.sleep(3 * max([self._tick, *(sign['tick'] for sign in before.values())]))
        after = self._signs()
        for rank, sign in after.items():
            who = f'process {sign["pid"]} on {sign["host"]}'
            doing = f'waits {sign["waited"]:.0f} s for {sign["phase"]}'
            alive = sign != before.get(rank)
            answers[rank] = (
                f'alive, {doing} ({who})' if alive else f'dead or stopped ({who}); in its last sign it {doing}'
            )

    def _signs(self) -> dict[int, dict[str, Any]]:
        store = own_store()
        return {} if store is None else Peers(store, self._rank, self._world_size).signs()

    def _end(self, waited: float) -> None:
        # The process ends even if the code below blocks, e.g. at a lock of the log that the stuck thread holds.
        timer = threading.Timer(3 * _GRACE, os._exit, [HUNG])
        timer.daemon = True
        timer.start()
        phase, limit = self.phase, self._limit
        self.report_death(f'it waited {waited:.0f} s for {phase}')
        self._dump_stacks(f'rank {self._rank} waited {waited:.1f} s for {phase}')
        message = (
            f'Hang: rank {self._rank} of {self._world_size} waited {waited:.1f} s for {phase}; the limit is {limit:g} '
            f's (WatchdogHook). {self.others()}\nThe stacks of its threads and of its data loader workers are in '
            f'{self.file}. The process ends with code {HUNG}; --resume auto continues from the newest checkpoint.'
        )
        print(message, file=sys.__stderr__, flush=True)
        for worker in multiprocessing.active_children():
            worker.kill()
        print_log(message, logger='current', level=logging.CRITICAL)
        os._exit(HUNG)

    def _dump_stacks(self, title: str) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, 'a', encoding='utf-8') as file:
            file.write(f'\n=== {datetime.now():%Y-%m-%d %H:%M:%S} {title}. Threads of process {os.getpid()}:\n')
            file.flush()
            faulthandler.dump_traceback(file, all_threads=True)
            for worker in multiprocessing.active_children():
                file.write(f'\n--- child process {worker.pid} {worker.name}\n')
                file.flush()
                if worker.pid is not None:
                    os.kill(worker.pid, _DUMP_STACKS)
                    time.sleep(0.2)  # so that the workers' stacks do not mix in the file


def dump_stacks_on_request(file: Path) -> None:
    """Let this process, a worker of the data loader, write its stacks to a file when the watchdog asks for them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    faulthandler.register(_DUMP_STACKS, file=open(file, 'a'), all_threads=True)  # noqa: SIM115
