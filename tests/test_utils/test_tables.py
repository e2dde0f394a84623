"""The one printer of tables."""

import pytest
from paths import ROOT

from mmmaskclip.utils.tables import format_table


def test_columns_are_aligned():
    rows = [('a/b', '1.0000'), ('long/name', '12.2500')]
    assert format_table(rows) == 'a/b         1.0000\nlong/name  12.2500'
    assert format_table(rows, ['metric', 'value']).splitlines()[0] == 'metric       value'
    assert format_table([]) == ''


def test_markdown():
    table = format_table([('clip', '1.0')], ['method', 'top1'], markdown=True)
    assert table == '| method | top1 |\n|---|---|\n| clip | 1.0 |'


def test_rows_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r'\[1, 2\] cells'):
        format_table([('a',)], ['b', 'c'])
    with pytest.raises(ValueError, match='needs a head'):
        format_table([('a',)], markdown=True)


def test_nobody_else_draws_tables():
    files = [path for folder in ('mmmaskclip', 'tools', 'demo') for path in (ROOT / folder).rglob('*.py')]
    assert [path.name for path in files if '---|' in path.read_text()] == ['tables.py']
