"""Training iterations of a toolbox's model that are not finite."""

import json
from itertools import count
from pathlib import Path


def spoil(monkeypatch, model: type, iteration: int) -> None:
    """Make every loss of a toolbox's model NaN in one iteration, numbered from 1."""
    loss, numbers = model.loss, count(1)

    def spoiled(self, *args, **kwargs):
        losses = loss(self, *args, **kwargs)
        if next(numbers) != iteration:
            return losses
        nan = float('nan')
        return {
            name: [part * nan for part in value] if isinstance(value, list) else value * nan
            for name, value in losses.items()
        }

    monkeypatch.setattr(model, 'loss', spoiled)


def skipped(work_dir: Path) -> list[dict]:
    """What a run has written about the iterations that it skipped."""
    return [json.loads(line) for line in (work_dir / 'nonfinite.jsonl').read_text().splitlines()]
