"""Report of a comparison: table, order of the methods, and whether each of the papers' claims holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mmmaskclip.utils.tables import format_table

NAMES = {
    'clip': 'CLIP',
    'clip_mae': 'CLIP + MAE',
    'maskclip_v1': 'MaskCLIP v1',
    'maskclip_cvpr': 'MaskCLIP CVPR',
    'maskclip_fast': 'maskclip_fast (ours)',
    'silc': 'SILC',
}
COLUMNS = {
    'retrieval/image_to_text_R@1': 'image to text R@1',
    'retrieval/text_to_image_R@1': 'text to image R@1',
    'classification/top1': 'zero-shot top-1',
    'segmentation/mIoU': 'segmentation mIoU',
    'regions/pointing': 'pointing',
    'knn/top1': 'k-NN top-1',
}


@dataclass(frozen=True)
class Claim:
    """A paper says that one method is better than another.

    Attributes:
        better: The better method.
        worse: The worse method.
        figures: The paper's measurements.
    """

    better: str
    worse: str
    figures: str


CLAIMS = (
    Claim('clip_mae', 'clip', 'MaskCLIP v1: ImageNet zero-shot 43.5 over 40.8, LAION-20M'),
    Claim('maskclip_v1', 'clip', 'MaskCLIP v1: 46.6 over 40.8, LAION-20M'),
    Claim('maskclip_v1', 'clip_mae', 'MaskCLIP v1: 46.6 over 43.5, LAION-20M'),
    Claim('maskclip_cvpr', 'clip', 'MaskCLIP CVPR: 44.5 over 37.6, YFCC15M'),
    Claim('maskclip_cvpr', 'clip_mae', 'MaskCLIP CVPR: 44.5 over 42.1, YFCC15M'),
    Claim('silc', 'clip', 'SILC: over CLIP on WebLI, in zero-shot, retrieval and segmentation'),
)
ORDER = 'CLIP, CLIP + MAE, MaskCLIP v1 (LAION-20M) and CLIP, CLIP + MAE, MaskCLIP CVPR (YFCC15M); SILC over CLIP'


def verdict(better: dict[str, Any] | None, worse: dict[str, Any] | None) -> str:
    """Whether one method beats another in a metric.

    Args:
        better: ``mean`` and ``spread`` (None for one seed) of the method that is better in the paper.
        worse: ``mean`` and ``spread`` of the other method.

    Returns:
        ``'holds'`` or ``'reversed'``, with the difference, if the means differ by more than the sum of both spreads.
        ``'undecided'`` if they do not, or if a method has one seed. ``''`` if a method was not measured.
    """
    if not better or not worse or better['mean'] is None or worse['mean'] is None:
        return ''
    difference = better['mean'] - worse['mean']
    if better['spread'] is None or worse['spread'] is None or abs(difference) <= better['spread'] + worse['spread']:
        return f'undecided ({difference:+.1f})'
    return f'{"holds" if difference > 0 else "reversed"} ({difference:+.1f})'


def report(results: dict[str, dict[str, dict]], header: str, missing: list[str]) -> str:
    """The report as Markdown.

    Args:
        results: By data set and method: ``seeds``, ``epochs``, ``minutes``, ``metrics`` by name with ``mean`` and
            ``spread``.
        header: Sentences about date, machine, sizes and command.
        missing: Sentences about runs that failed or were not finished.

    Returns:
        The text of the report.
    """
    lines = ['# Six methods on one machine', '', header, '']
    for data, methods in results.items():
        columns = {
            name: title
            for name, title in COLUMNS.items()
            if any(name in entry['metrics'] for entry in methods.values())
        }
        lines += [f'## {data}', '', _table(methods, columns), '']
        lines += ['Methods from the lowest to the highest mean:', '']
        lines += [f'- {title}: {_order(methods, name)}' for name, title in columns.items()]
        lines += [f"- the papers' ImageNet zero-shot: {ORDER}", '', _claims(methods, columns), '']
    lines += ['A claim holds, or is reversed, where two means differ by more than both standard deviations together.']
    if missing:
        lines += ['', 'Not finished:', '', *(f'- {sentence}' for sentence in missing)]
    return '\n'.join(lines) + '\n'


def _table(methods: dict[str, dict], columns: dict[str, str]) -> str:
    rows = []
    for method, entry in methods.items():
        cells = [_cell(entry['metrics'].get(name)) for name in columns]
        minutes = '' if entry.get('minutes') is None else f'{entry["minutes"]:.1f}'
        rows.append((NAMES.get(method, method), *cells, str(len(entry['seeds'])), str(entry['epochs'] or ''), minutes))
    return format_table(rows, ['method', *columns.values(), 'seeds', 'epochs', 'minutes each'], markdown=True)


def _cell(metric: dict[str, Any] | None) -> str:
    if metric is None or metric['mean'] is None:
        return ''
    return f'{metric["mean"]:.1f}' + ('' if metric['spread'] is None else f' ± {metric["spread"]:.1f}')


def _order(methods: dict[str, dict], name: str) -> str:
    means = {
        method: entry['metrics'][name]['mean']
        for method, entry in methods.items()
        if entry['metrics'].get(name) and entry['metrics'][name]['mean'] is not None
    }
    return ', '.join(NAMES.get(method, method) for method in sorted(means, key=lambda method: means[method]))


def _claims(methods: dict[str, dict], columns: dict[str, str]) -> str:
    def metric(method: str, name: str) -> dict[str, Any] | None:
        return methods.get(method, {'metrics': {}})['metrics'].get(name)

    rows = [
        (
            f'{NAMES[claim.better]} over {NAMES[claim.worse]}',
            claim.figures,
            *(verdict(metric(claim.better, name), metric(claim.worse, name)) for name in columns),
        )
        for claim in CLAIMS
    ]
    return format_table(rows, ['claim', "the paper's figures", *columns.values()], markdown=True)
