"""docs/reliability.md names a test for each promise: every one of them exists."""

import re

from paths import ROOT

PAGE = (ROOT / 'docs/reliability.md').read_text(encoding='utf-8')


def test_every_test_that_is_named_exists():
    file, missing = '', []
    for path, name in re.findall(r'`(test_[\w/]+(?:\.py)?)?(?:::(test_\w+))?`', PAGE):
        # A name alone is of the file before it.
        file = path or file
        source = ROOT / 'tests' / file
        found = source.exists() and (not name or f'def {name}(' in source.read_text(encoding='utf-8'))
        missing += [] if found else [f'{file}::{name}']
    assert file
    assert not missing
