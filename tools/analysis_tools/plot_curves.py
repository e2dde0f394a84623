"""Draw the curves of one or several runs into one image.

python tools/analysis_tools/plot_curves.py work_dirs/clip work_dirs/maskclip --keys loss retrieval/image_to_text_R@1

A run is a work dir or a scalars.json. The logs of a resumed run are joined; of several runs in one work dir the newest
is drawn. Several seeds of one run, separated by commas (clip_seed0,clip_seed1,clip_seed2), are drawn as their mean,
with a band from the lowest to the highest value.
Every key has a panel over the iterations, every run a colour. Validation values are drawn at the iteration of the
validation.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use('Agg')  # no display needed
import matplotlib.pyplot as plt

Curve = dict[int, float]


def read_curves(run: str | Path) -> dict[str, Curve]:
    """Read the log of a run.

    Args:
        run: A work dir or a ``scalars.json``.

    Returns:
        The values of each key by iteration. If a resumed run repeats an iteration, the later value counts; what was
        logged before a run that started afresh does not.

    Raises:
        FileNotFoundError: If the run has no log.
    """
    run = Path(run)
    files = (
        [run] if run.is_file() else sorted(run.glob('*/vis_data/scalars.json')) or sorted(run.glob('**/scalars.json'))
    )
    if not files:
        raise FileNotFoundError(f'{run} is neither a scalars.json nor a work dir that has */vis_data/scalars.json.')
    curves: dict[str, Curve] = {}
    for file in files:
        config = file.with_name('config.py')
        if config.is_file() and not re.search('^resume = True$', config.read_text(encoding='utf-8'), re.M):
            curves.clear()
        iteration = 0
        for line in file.read_text().splitlines():
            try:
                values = json.loads(line)
            except json.JSONDecodeError:  # a killed run leaves an incomplete last line
                continue
            # Validation lines count epochs in "step"; they follow the training line of their iteration.
            iteration = values.get('iter', iteration)
            for key, value in values.items():
                if key not in ('iter', 'step') and isinstance(value, (int, float)):
                    curves.setdefault(key, {})[iteration] = value
    return curves


def mean_and_band(seeds: Sequence[Curve]) -> tuple[Curve, Curve, Curve]:
    """Mean, lowest and highest value over the seeds, at the iterations that all seeds have logged."""
    shared = sorted(set.intersection(*map(set, seeds))) if seeds else []
    values = {iteration: [curve[iteration] for curve in seeds] for iteration in shared}
    mean = {iteration: sum(all_) / len(all_) for iteration, all_ in values.items()}
    return mean, {i: min(all_) for i, all_ in values.items()}, {i: max(all_) for i, all_ in values.items()}


def plot_curves(runs: dict[str, list[dict[str, Curve]]], keys: Sequence[str], out: str | Path) -> None:
    """Draw the curves.

    Args:
        runs: By label, the result of :func:`read_curves` for each seed.
        keys: Keys to draw.
        out: Path of the image.

    Raises:
        KeyError: If no run has one of the keys; the message names similar keys.
    """
    known = sorted({key for seeds in runs.values() for curves in seeds for key in curves})
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=5, cutoff=0.4) or known
            raise KeyError(f'No run has logged {key!r}. Did you mean one of: {", ".join(near)}?')
    figure, axes = plt.subplots(len(keys), 1, figsize=(8, 3 * len(keys)), sharex=True, squeeze=False)
    for axis, key in zip(axes[:, 0], keys, strict=True):
        for number, (label, seeds) in enumerate(runs.items()):
            mean, low, high = mean_and_band([curves.get(key, {}) for curves in seeds])
            # Curves of few points get markers: their line may be hard to see.
            style = {'color': f'C{number}', 'marker': 'o' if len(mean) < 20 else None}
            axis.plot(list(mean), list(mean.values()), label=label, **style)
            if len(seeds) > 1:
                axis.fill_between(list(mean), list(low.values()), list(high.values()), color=f'C{number}', alpha=0.2)
        axis.set_ylabel(key)
        axis.grid(alpha=0.3)
    axes[0, 0].legend()
    axes[-1, 0].set_xlabel('iteration')
    figure.tight_layout()
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'runs',
        nargs='+',
        help='work dirs or scalars.json files; A,B,C: seeds of one run',
    )
    parser.add_argument('--keys', nargs='+', default=['loss'], help='logged values to draw, one panel each [loss]')
    parser.add_argument('--labels', nargs='+', help='names of the runs [the names of their folders]')
    parser.add_argument('--out', default='curves.png', help='image to write [curves.png]')
    args = parser.parse_args(argv)
    labels = args.labels or [Path(run.partition(',')[0]).resolve().name for run in args.runs]
    if len(set(labels)) != len(args.runs):
        # Folders of the same name, or scalars.json of several runs: label them with their full paths.
        if args.labels:
            parser.error(f'{len(args.runs)} runs need as many different --labels, got: {" ".join(labels)}')
        labels = args.runs
    seeds = [[read_curves(seed) for seed in run.split(',')] for run in args.runs]
    curves = dict(zip(labels, seeds, strict=True))
    plot_curves(curves, args.keys, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    main()
