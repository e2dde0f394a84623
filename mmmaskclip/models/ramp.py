"""Values that change over a run: loss weights, teacher momentum, teacher temperature."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Ramp:
    """A value that goes from ``begin`` to ``end`` while the run goes from ``start`` to ``stop``.

    mmengine's schedulers can only move values that live in optimizer parameter groups.

    Args:
        begin: Value until ``start``.
        end: Value from ``stop`` on.
        start: Share of the run, in [0, 1], at which the change begins. Defaults to 0.
        stop: Share of the run at which it is complete. Defaults to 1.
        curve: ``'linear'`` or ``'cosine'``. Defaults to ``'linear'``.

    Raises:
        ValueError: If ``curve`` is neither, or if not 0 <= start < stop <= 1.
    """

    begin: float
    end: float
    start: float = 0.0
    stop: float = 1.0
    curve: str = 'linear'

    def __post_init__(self) -> None:
        if self.curve not in ('linear', 'cosine'):
            raise ValueError(f"curve={self.curve!r}: choose 'linear' or 'cosine'")
        if not 0 <= self.start < self.stop <= 1:
            raise ValueError(
                f'start={self.start}, stop={self.stop}: both are shares of the run, 0 <= start < stop <= 1'
            )

    @classmethod
    def of(cls, value: float | dict) -> 'Ramp':
        """A ramp from a config value: a number means a constant."""
        if isinstance(value, dict):
            return cls(**value)
        return cls(value, value)

    def __call__(self, progress: float) -> float:
        """The value when a share ``progress`` of the run, in [0, 1], is done."""
        share = min(max((progress - self.start) / (self.stop - self.start), 0.0), 1.0)
        if self.curve == 'cosine':
            share = (1 - math.cos(math.pi * share)) / 2
        return self.begin + (self.end - self.begin) * share
