"""Published rows of dense protocols, and whether a run reproduces one."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmaskclip.analysis.budget import differences, evaluation_settings

# Keys that say where the images lie and how they are loaded, which no result depends on; and the key of the row itself.
_FREE = ('data_root', 'num_workers', 'persistent_workers', 'prefetch_factor', 'pin_memory', 'read_out')


@dataclass(frozen=True)
class PublishedTable:
    """Published values of several read-outs under several protocols, of one tower.

    Attributes:
        source: Where they were published.
        weights: Name of the file of weights that they were measured with.
        sha256: SHA-256 of that file; None accepts any file.
        metric: Name of the published metric.
        within: A row counts as reproduced if its mean differs from the published mean by at most so many points.
        protocols: Paths of the configs.
        rows: Published values by name of the config, by read-out.
    """

    source: str
    weights: str
    sha256: str | None
    metric: str
    within: float
    protocols: list[str]
    rows: dict[str, dict[str, float]]


def read_table(path: str | os.PathLike) -> PublishedTable:
    """Read a table; ``configs/zero_shot_seg/sclip_eight.json`` is one.

    Raises:
        ValueError: If the file is not such a table, if a row does not have one value per protocol, or if a protocol's
            config does not exist.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        protocols = [str(path.parent / name) for name in content['protocols']]
        rows = {
            name: dict(zip(map(protocol_name, protocols), row, strict=True)) for name, row in content['rows'].items()
        }
        weights = content['weights']
        table = PublishedTable(
            source=content['source'],
            weights=weights['name'],
            sha256=weights.get('sha256'),
            metric=content['metric'],
            within=float(content['within']),
            protocols=protocols,
            rows=rows,
        )
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f'{path} is no table of published rows: {error!r}') from error
    if lost := [name for name in protocols if not Path(name).is_file()]:
        raise ValueError(f'{path} names the protocol {lost[0]!r}, but there is no such config')
    return table


def protocol_name(path: str | os.PathLike) -> str:
    """Name of a protocol in tables: the file name of its config."""
    return Path(path).stem


def judge_row(
    table: PublishedTable, read_out: str, results: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]
) -> dict[str, Any]:
    """Whether the results of one read-out reproduce its published row.

    Args:
        table: The published values.
        read_out: The row.
        results: Results of ``tools/test.py --out``, by name of the protocol.
        missing: By name of the protocol, which data is missing; for protocols without a result.

    Returns:
        ``read-out``; ``here``, a value or None for each protocol; the means ``average`` (None if a value is missing)
        and ``published``; ``difference``; and ``verdict``, which begins with ``reproduced``, ``not reproduced`` or
        ``cannot be judged``.
    """
    row = table.rows[read_out]
    here = {name: (results.get(name) or {}).get('metrics', {}).get(table.metric) for name in row}
    published = sum(row.values()) / len(row)
    judged: dict[str, Any] = {'read-out': read_out, 'here': here, 'average': None, 'published': published}
    problems = [f'{name} is missing ({missing.get(name, "its run failed")})' for name in row if here[name] is None]
    for path in table.protocols:
        if result := results.get(protocol_name(path)):
            problems += [f'{protocol_name(path)} was run with {other}' for other in _other_settings(path, result)]
    if problems:
        return judged | {'difference': None, 'verdict': f'cannot be judged: {"; ".join(problems)}'}
    average = sum(here.values()) / len(here)
    difference = average - published
    # Rounded, so that an error of floating point does not decide.
    reproduced = round(abs(difference), 6) <= table.within
    verdict = f'{"reproduced" if reproduced else "not reproduced"}: {average:.2f} for {published:.2f}'
    far = [f'{name} {here[name] - value:+.1f}' for name, value in row.items() if abs(here[name] - value) > table.within]
    if far:
        verdict += f'; further off by themselves: {", ".join(far)}'
    hashes = {result['record']['weights'] for result in results.values()}
    if table.sha256 and hashes != {table.sha256}:
        verdict += (
            f"; the weights are not the file that was published ({table.weights}), a converted copy's hash differs"
        )
    return judged | {'average': average, 'difference': difference, 'verdict': verdict}


def _other_settings(protocol: str, result: Mapping[str, Any]) -> list[str]:
    """The settings of a result that differ from its protocol."""
    record = result['record']
    shipped = evaluation_settings(Config.fromfile(protocol))
    used = {key: record.get(key) for key in shipped}
    lines = differences(_decisive(used), _decisive(shipped))
    if record['precision'] != 'float32':
        lines.append(f'precision: {record["precision"]!r} != {"float32"!r}')
    return lines


def _decisive(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _decisive(value) for key, value in node.items() if key not in _FREE}
    return [_decisive(value) for value in node] if isinstance(node, list) else node
