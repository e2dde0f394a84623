"""The text of the configs: what is named exists, chains are short, lines are not copied, READMEs list what there is."""

import re

import paths

TEXTS = [paths.ROOT / 'README.md', paths.ROOT / 'CONTRIBUTING.md', *(paths.ROOT / 'docs').glob('*.md')]
TEXTS += [path for folder in ('configs', 'demo', 'mmmaskclip', 'tools') for path in (paths.ROOT / folder).rglob('*.py')]
# In how-tos: files that the reader is to write.
EXAMPLES = {'configs/maskclip/my_pairs.py'}


def test_configs_that_are_named_exist():
    missing = []
    for text in TEXTS:
        for name in re.findall(r'configs/[\w/]+\.py', text.read_text(encoding='utf-8')):
            if not (paths.ROOT / name).is_file() and name not in EXAMPLES and 'NAME' not in name:
                missing.append(f'{text.relative_to(paths.ROOT)}: {name}')
    assert not missing
