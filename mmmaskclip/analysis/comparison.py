"""Summary of several methods, each trained with several seeds, as a table and as a figure."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmmaskclip.utils.tables import format_table


def seconds_of_training(times: dict[int, float]) -> float:
    """Time of all steps, in seconds.

    Args:
        times: Mean step time of each log interval, by the last iteration of the interval.
    """
    return sum((last - before) * times[last] for last, before in zip(times, [0, *times], strict=False))


def read_step_times(logs: Sequence[Path]) -> dict[int, float]:
    """Seconds per step by iteration. If a resumed run repeats an iteration, the later log counts."""
    times: dict[int, float] = {}
    for path in sorted(logs):
        for line in path.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:  # a killed run leaves an incomplete last line
                continue
            if 'step_time' in values:
                times[values['iter']] = values['step_time']
    return dict(sorted(times.items()))


def read_run(folder: Path) -> dict:
    """Metrics and cost of a finished run."""
    logs = sorted(folder.glob('*/vis_data/scalars.json'))
    times = read_step_times(logs)
    memory = [float(value) for path in logs for value in re.findall(r'"memory": (\d+)', path.read_text())]
    return dict(
        metrics=json.loads((folder / 'metrics.json').read_text())['metrics'],
        steps=max(times, default=None),
        step_time=statistics.median(times.values()) if times else None,
        minutes=seconds_of_training(times) / 60 if times else None,
        memory=max(memory, default=None),
    )


def summarize(runs: dict[str, dict[int, dict]], reference: str) -> dict[str, dict[str, Any]]:
    """Mean and spread over the seeds of every method.

    Args:
        runs: Finished runs by method and seed: ``metrics`` (by name), ``step_time`` (seconds), ``minutes`` (of
            training) and ``memory`` (MB). A method without a finished run has an empty dict.
        reference: The method that the others are compared with.

    Returns:
        A dict by method with ``seeds``; ``metrics``, by name a dict of ``mean``, ``spread`` (the sample standard
        deviation over the seeds, None for one seed), ``difference`` to the reference and ``difference_spread``, over
        the seeds that both have (None without any); ``step_time``, ``minutes`` and ``memory``, means over the seeds;
        ``time_ratio``, the step time divided by the reference's.
    """
    summary: dict[str, dict[str, Any]] = {}
    for method, by_seed in runs.items():
        names = list(dict.fromkeys(name for run in by_seed.values() for name in run['metrics']))
        base = {} if method == reference else runs[reference]
        pairs = [(run['metrics'], base[seed]['metrics']) for seed, run in by_seed.items() if seed in base]
        metrics = {}
        for name in names:
            mean, spread = _mean_and_spread([run['metrics'].get(name) for run in by_seed.values()])
            difference, difference_spread = _mean_and_spread(
                [ours[name] - theirs[name] for ours, theirs in pairs if name in ours and name in theirs]
            )
            metrics[name] = dict(mean=mean, spread=spread, difference=difference, difference_spread=difference_spread)
        entry: dict[str, Any] = dict(seeds=sorted(by_seed), metrics=metrics)
        for key in ('step_time', 'minutes', 'memory'):
            entry[key] = _mean_and_spread([run[key] for run in by_seed.values()])[0]
        summary[method] = entry
    reference_time = summary[reference]['step_time']
    for entry in summary.values():
        both_measured = reference_time and entry['step_time']
        entry['time_ratio'] = entry['step_time'] / reference_time if both_measured else None
    return summary


def _mean_and_spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    measured = [value for value in values if value is not None]
    mean = statistics.fmean(measured) if measured else None
    return mean, (statistics.stdev(measured) if len(measured) > 1 else None)


def metric_names(summary: dict[str, dict], names: Sequence[str] | None = None) -> list[str]:
    """The metrics to show: ``names``, or all metrics of all methods.

    Raises:
        KeyError: If no run has measured one of ``names``.
    """
    measured = list(dict.fromkeys(name for entry in summary.values() for name in entry['metrics']))
    unknown = [name for name in names or () if name not in measured]
    if unknown and measured:
        raise KeyError(f'no run has measured {", ".join(unknown)}; there are {", ".join(measured)}')
    return list(names or measured)


def summary_table(summary: dict[str, dict], epochs: dict[str, int | None], reference: str, names: Sequence[str]) -> str:
    """A markdown table with one row per method.

    Args:
        summary: Result of :func:`summarize`.
        epochs: Epochs of each method; None if not known yet.
        reference: The method whose step time is 1.00x.
        names: The metrics, one column each.

    Returns:
        The table; a cell is ``mean ± spread``, or the bare value of a single seed.
    """
    head = ['method', *names, 'seeds', 'epochs', 'ms per step', 'time', 'minutes', 'memory']
    rows = []
    for method, entry in summary.items():
        cells = [f'{method} (reference)' if method == reference and len(summary) > 1 else method]
        cells += [_cell(entry['metrics'].get(name)) for name in names]
        cells += [', '.join(map(str, entry['seeds'])) or 'none', str(epochs[method] or '')]
        for key, scale, form in (('step_time', 1e3, '.1f'), ('time_ratio', 1, '.2f'), ('minutes', 1, '.1f')):
            cells.append('' if entry[key] is None else f'{scale * entry[key]:{form}}' + 'x' * (key == 'time_ratio'))
        cells.append('' if entry['memory'] is None else f'{entry["memory"]:.0f} MB')
        rows.append(cells)
    return format_table(rows, head, markdown=True)


def _cell(metric: dict | None) -> str:
    if metric is None or metric['mean'] is None:
        return ''
    return f'{metric["mean"]:.2f}' + ('' if metric['spread'] is None else f' ± {metric["spread"]:.2f}')


def draw_bars(summary: dict[str, dict], names: Sequence[str], out: str | Path) -> None:
    """Draw one panel of horizontal bars per metric. A whisker shows the spread over the seeds.

    Args:
        summary: Result of :func:`summarize`.
        names: The metrics.
        out: Path of the image.
    """
    import matplotlib

    matplotlib.use('Agg')  # no display needed
    import matplotlib.pyplot as plt

    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    size = (4.2 * columns + 1.5, rows * (0.9 + 0.32 * len(summary)))
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        cells = [entry['metrics'].get(name) or dict(mean=None, spread=None) for entry in summary.values()]
        axis.barh(
            list(summary),
            [cell['mean'] or 0.0 for cell in cells],
            xerr=[cell['spread'] or 0.0 for cell in cells],
            color=[f'C{number % 10}' for number in range(len(summary))],
            capsize=3,
        )
        axis.set_title(name, fontsize=10)
        axis.grid(axis='x', alpha=0.3)
    axes[0, 0].invert_yaxis()  # the first method on top; the axis is shared
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    figure.tight_layout()
    figure.savefig(out, dpi=150)
    plt.close(figure)
