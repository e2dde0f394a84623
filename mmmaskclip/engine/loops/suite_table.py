"""The table of a suite: the score of each set, and our averages beside those of papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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
        Lines: one per set, the average, the missing sets, and the published averages.
    """
    width = max(len(name) for name in [*sets, f'average of {len(sets)} of {len(sets)}'])
    lines = [f'{suite}:', *(f'  {name:<{width}}  {scores[name]:6.2f}' for name in sets if name in scores)]
    lines.append(f'  {f"average of {len(scores)} of {len(sets)}":<{width}}  {average(scores):6.2f}')
    missing = list(missing)
    if missing:
        lines.append(f'  not present: {", ".join(missing)}')
    if published:
        lines.append('  published averages, and ours over those of their sets that ran:')
    name_width = max((len(row.name) for row in published), default=0)
    for row in published:
        ran = {name: scores[name] for name in row.sets if name in scores}
        ours = f'ours {average(ran):6.2f}' if ran else 'ours      -'
        of = f'({len(ran)} of {len(row.sets)})'
        lines.append(f'  {row.name:<{name_width}}  {row.average:6.2f}   {ours} {of}   {row.source}')
    return '\n'.join(lines)
