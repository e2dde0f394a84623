"""Times a training step by part of the model and by kind of kernel."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Kinds by words in a kernel's name; the first match counts. Triton comes first: its kernels' names list all fused
# parts.
_KERNELS = {
    'fused by the compiler': ('triton', 'graph_'),
    'attention': ('flash', 'fmha', 'attention', 'sdpa'),
    'matrix products': ('gemm', 'cutlass', 'nvjet', 'cublas', 'xmma', '::mm', 'addmm', 'bmm', 'matmul', 'conv'),
    'optimizer and teacher': ('multi_tensor', 'foreach', 'fused_adam', 'adamw', 'lerp'),
    'norms and softmaxes': ('norm', 'softmax', 'loss'),
    'copies, casts, indices': ('copy', 'memcpy', 'memset', 'cast', 'cat', 'gather', 'scatter', 'index', 'embedding'),
    'element-wise': (
        'elementwise',
        'reduce',
        'add',
        'mul',
        'sub',
        'div',
        'gelu',
        'fill',
        'sum',
        'where',
        'neg',
        'sqrt',
    ),
}


class PartClock:
    """Adds up the time of named parts of a step. The time of a nested part counts for the inner part alone.

    At the begin and end of each part the host waits for the device, so steps are slower than without the clock.

    Args:
        device: ``'cuda'`` or ``'cpu'``.

    Attributes:
        seconds: Time by part, in the order in which the parts began.
    """

    def __init__(self, device: str) -> None:
        self.seconds: dict[str, float] = {}
        self._device = device
        self._inner: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a block."""
        self.seconds.setdefault(name, 0.0)
        begin = self._now()
        self._inner.append(0.0)
        yield
        spent = self._now() - begin
        self.seconds[name] += spent - self._inner.pop()
        if self._inner:
            self._inner[-1] += spent

    def watch(self, owner: Any, method: str, name: str | Callable[..., str]) -> None:
        """Time every call of a method of one object; ``name`` may be a function of the call's arguments."""
        call = getattr(owner, method)

        @functools.wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*args, **kwargs)):
                return call(*args, **kwargs)

        setattr(owner, method, timed)

    def _now(self) -> float:
        if self._device == 'cuda':
            torch.cuda.synchronize()
        return time.perf_counter()


def kind_of_kernel(name: str) -> str:
    """The kind of work of a kernel (on a CPU: of a torch operator), by its name."""
    lower = name.lower()
    return next((kind for kind, words in _KERNELS.items() if any(word in lower for word in words)), 'other')


def profile_step(
    run: Callable[[], None], device: str, most: int = 20
) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Run one step under torch's profiler.

    Args:
        run: The step.
        device: ``'cuda'`` times kernels; ``'cpu'`` times operators.
        most: Number of the longest kernels to list.

    Returns:
        Milliseconds by kind of kernel, longest first, and of the longest kernels by name.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device == 'cuda':
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as trace:
        run()
    key = 'self_device_time_total' if device == 'cuda' else 'self_cpu_time_total'
    events = [event for event in trace.key_averages() if not event.is_user_annotation]
    if device == 'cuda':
        # Only kernels: an operator's time is the time of its kernels, which are events themselves.
        events = [event for event in events if event.device_type == torch.autograd.DeviceType.CUDA]
    times = {event.key: getattr(event, key) / 1e3 for event in events}
    longest = sorted(((name, spent) for name, spent in times.items() if spent), key=lambda pair: -pair[1])
    kinds: dict[str, float] = {}
    for name, spent in longest:
        kind = kind_of_kernel(name)
        kinds[kind] = kinds.get(kind, 0.0) + spent
    return dict(sorted(kinds.items(), key=lambda pair: -pair[1])), longest[:most]


def lines_that_wait(run: Callable[[], None]) -> list[str]:
    """Run one step on a GPU. Returns each ``file:line`` at which the host waited for the GPU, once."""
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return list(dict.fromkeys(f'{wait.filename}:{wait.lineno}' for wait in waits if 'synchroniz' in str(wait.message)))
