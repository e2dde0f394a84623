"""The table of a suite: the score of each set, and our averages beside those of papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import Any

from mmmaskclip.utils.tables import format_table


@dataclass(frozen=True)
class Published:
    """An average from a paper.

    Attributes:
        name: Model and training.
        average: Mean of the sets' scores, in percent.
        source: Paper and table.
        sets: The sets in the average.
    """

    name: str
    average: float
    source: str
    sets: tuple[str, ...]

    @classmethod
    def of(cls, row: Mapping[str, Any], suite: Iterable[str]) -> Published:
        """Read a row of a config: ``name``, ``average``, ``source``, and ``without``, the sets that it leaves out.

        Raises:
            ValueError: If ``without`` names a set that the suite does not have.
        """
        suite, without = list(suite), set(row.get('without', ()))
        if not without <= set(suite):
            raise ValueError(
                f'published {row["name"]!r} leaves out {sorted(without - set(suite))}: the suite has no such set'
            )
        sets = tuple(name for name in suite if name not in without)
        return cls(row['name'], row['average'], row['source'], sets)


def average(scores: Mapping[str, float]) -> float:
    """Plain mean of the sets' scores."""
    return sum(scores.values()) / len(scores)


def format_suite(
    suite: str,
    sets: Sequence[str],
    scores: Mapping[str, float],
    missing: Iterable[str],
    published: Sequence[Published],
) -> str:
    """The table of a suite as text.

    Args:
        suite: Name of the suite.
        sets: All sets of the suite.
        scores: Score of each set that ran.
        missing: Sets without images.
        published: Averages from papers. Each is shown beside our average over the same sets.

    Returns:
        Lines: one per set, the average, the missing sets, and the published averages beside ours over those of their
        sets that ran.
    """
    rows = [(name, f'{scores[name]:6.2f}') for name in sets if name in scores]
    rows.append((f'average of {len(scores)} of {len(sets)}', f'{average(scores):6.2f}'))
    lines = [f'{suite}:', indent(format_table(rows), '  ')]
    missing = list(missing)
    if missing:
        lines.append(f'  not present: {", ".join(missing)}')
    averages = []
    for row in published:
        ran = {name: scores[name] for name in row.sets if name in scores}
        ours = f'{average(ran):.2f}' if ran else '-'
        averages.append((f'{row.name} ({row.source})', f'{row.average:.2f}', ours, f'{len(ran)} of {len(row.sets)}'))
    if averages:
        lines.append(indent(format_table(averages, ['averages of papers', 'published', 'ours', 'over sets']), '  '))
    return '\n'.join(lines)
