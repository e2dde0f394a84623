"""What became of an optimizer step, first known on the device and later on the host."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class StepOutcome:
    """One optimizer step that was applied, or skipped because a loss or the gradient was not finite.

    The flags are equal on all processes. On a GPU they are copied to the host without waiting; :meth:`read` waits for
    the copy. Whoever moves something with the step gives :meth:`if_skipped` the function that moves it back.

    Args:
        flags: (3,), each 1 or 0, on the device of the parameters: the step is skipped; a loss was not finite; a process
            asked the run to stop.

    Attributes:
        applied (Tensor): 0-dim float tensor on that device: 1 if the step is applied, 0 if it is skipped.
        skipped (bool | None): The same for the host; None until the host has read it.
        loss_fault (bool): Whether a loss was not finite, rather than only the gradient. Valid once it is read.
        stop_requested (bool): Whether a process asked the run to stop. Valid once it is read.
    """

    def __init__(self, flags: Tensor) -> None:
        self.applied = 1 - flags[0]
        self.skipped: bool | None = None
        self.loss_fault = False
        self.stop_requested = False
        self._undo: list[Callable[[], None]] = []
        self._host_flags, self._copied = _start_copy(flags)

    def read(self) -> None:
        """Let the host know; waits until the device has finished the step. Further calls do nothing."""
        if self.skipped is not None:
            return
        if self._copied is not None:
            self._copied.synchronize()
        self.skipped, self.loss_fault, self.stop_requested = (bool(flag) for flag in self._host_flags.tolist())
        undo, self._undo = self._undo, []
        if self.skipped:
            for function in undo:
                function()

    def if_skipped(self, undo: Callable[[], None]) -> None:
        """Call a function as soon as the host knows that the step was skipped: now, in :meth:`read`, or never."""
        if self.skipped is None:
            self._undo.append(undo)
        elif self.skipped:
            undo()


def _start_copy(values: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """Copy to the host without waiting. The copy may be read once the event, if there is one, is synchronized."""
    if not values.is_cuda:
        return values, None
    host = torch.empty_like(values, device='cpu', pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied
