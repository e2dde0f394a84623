"""List the differences of two results of tools/test.py --out: settings, weights, prompts and metrics.

python tools/analysis_tools/compare_results.py A.json B.json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mmmaskclip.analysis.budget import differences
from mmmaskclip.utils.tables import format_table


def main(argv: Sequence[str] | None = None) -> int:
    """Print the differences; returns 1 if the settings differ, else 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('first', help='result of tools/test.py --out')
    parser.add_argument('second', help='result to compare with')
    args = parser.parse_args(argv)
    results = []
    for path in (args.first, args.second):
        try:
            result = json.loads(Path(path).read_text(encoding='utf-8'))
            results.append((result['record'], result['metrics']))
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            parser.error(f'{path} is no result of tools/test.py --out: {error!r}')
    (record, metrics), (other, other_metrics) = results
    lines = differences(record, other)
    print('\n'.join(lines) if lines else 'The settings are the same.')
    rows = [
        (name, *(f'{values[name]:.4f}' if name in values else '-' for values in (metrics, other_metrics)))
        for name in dict.fromkeys([*metrics, *other_metrics])
    ]
    print('\n' + format_table(rows, ['metric', Path(args.first).name, Path(args.second).name]))
    return 1 if lines else 0


if __name__ == '__main__':
    sys.exit(main())
