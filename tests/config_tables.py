"""The README of each folder of configs, made from the headers, and the table of zero-shot sets in docs/evaluation.md.

``python tests/config_tables.py`` writes them all. Also counts lines that are copied between configs.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

import paths

from mmmaskclip.datasets.evaluation.zero_shot_tasks import markdown_table
from mmmaskclip.utils.tables import format_table

# A set's config is three lines, whose header repeats neither the one command nor that it was not run.
OF_ONE_SET = 'zero_shot'
RUN = 6  # lines


def folders() -> list[Path]:
    """Every folder with configs that are run."""
    return sorted({path.parent for path in paths.CONFIGS.rglob('*.py') if '_base_' not in path.parts})


def header(path: Path) -> dict[str, str]:
    """Of a config: ``title``, ``command``, ``published`` and ``here``."""
    title, *rest = (ast.get_docstring(ast.parse(path.read_text(encoding='utf-8'))) or '').split('\n\n')
    commands, prose = [], []
    for line in '\n'.join(rest).replace('\\\n', ' ').splitlines():
        (commands if re.match(r'(\w+=\S+ )?(tools/dist_|python |tar )', line.strip()) else prose).append(
            ' '.join(line.split())
        )
    text = ' '.join(filter(None, prose))
    if path.parent.name == OF_ONE_SET:
        commands = commands or [f'python tools/test.py configs/{OF_ONE_SET}/{path.name} CHECKPOINT --model CONFIG']
        text = text or 'Not run.'
    published = re.search(r'Published.*?(?= Here:| Measured on| Not run|$)', text)
    here = re.search(
        r'Measured on.*?(?= More in|$)|[Nn]ot run(?: at full scale| in this form| with its text branch)?', text
    )
    return {
        'title': ' '.join(title.split()).rstrip('.'),
        'command': '<br>'.join(f'`{command}`' for command in commands),
        'published': published[0].removeprefix('Published').lstrip(': ') if published else '—',
        'here': here[0][0].lower() + here[0][1:].rstrip('.') if here else '—',
    }


def readme(folder: Path) -> str:
    """The README of a folder."""
    configs = sorted(path for path in folder.glob('*.py'))
    rows = []
    for path in configs:
        row = header(path)
        cells = [row['title'], row['command'], row['published'], row['here']]
        rows.append([f'[{path.stem}]({path.name})', *(cell.replace('|', '\\|') for cell in cells)])
    table = format_table(rows, ['config', 'what', 'command', 'published', 'here'], markdown=True)
    last = 'Made from the headers of the configs by `python tests/config_tables.py`.'
    return f'# {folder.relative_to(paths.CONFIGS)}\n\n{table}\n\n{last}\n'


def with_zero_shot_sets(page: str) -> str:
    """The text of docs/evaluation.md with the table of the rows of ``zero_shot_sets.py``."""
    before, after = page.split('| config | set |')
    return before + markdown_table() + after[after.index('\n\n') + 1 :]


def copied_lines(folder: Path) -> dict[Path, int]:
    """For each config the number of its non-blank lines that stand in runs of six or more that another one has too."""
    texts = {path: [line for line in path.read_text().splitlines() if line.strip()] for path in folder.rglob('*.py')}
    runs: dict[tuple[str, ...], set[Path]] = defaultdict(set)
    for path, lines in texts.items():
        for start in range(len(lines) - RUN + 1):
            runs[tuple(lines[start : start + RUN])].add(path)
    counts = {}
    for path, lines in texts.items():
        copied = {
            start + offset
            for start in range(len(lines) - RUN + 1)
            if len(runs[tuple(lines[start : start + RUN])]) > 1
            for offset in range(RUN)
        }
        counts[path] = len(copied)
    return counts


if __name__ == '__main__':
    for each in folders():
        (each / 'README.md').write_text(readme(each), encoding='utf-8')
        print(each)
    evaluation = paths.ROOT / 'docs/evaluation.md'
    evaluation.write_text(with_zero_shot_sets(evaluation.read_text(encoding='utf-8')), encoding='utf-8')
