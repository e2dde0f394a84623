"""The text of the configs: what is named exists, chains are short, lines are not copied, READMEs list what there is."""

import re

import paths
import pytest
from config_tables import copied_lines, folders, header, readme
from mmengine.config import Config

TEXTS = [paths.ROOT / 'README.md', paths.ROOT / 'CONTRIBUTING.md', *(paths.ROOT / 'docs').glob('*.md')]
TEXTS += [path for folder in ('configs', 'demo', 'mmmaskclip', 'tools') for path in (paths.ROOT / folder).rglob('*.py')]
# In how-tos: files that the reader is to write.
EXAMPLES = {
    'configs/maskclip/my_pairs.py',
    'configs/patch_colour/vitxs16_scenes.py',
    'configs/zero_shot/leaves.py',
    'clip/clip.py',  # of OpenAI's repository
    'clip/vitb16_x.py',
    'maskclip/vitb16_x.py',
}


# configs/clip/vitt16_flickr8k.py, clip/vitt16_flickr8k.py, or work_dirs/clip/vitt16_flickr8k.
METHODS = '|'.join(sorted(path.name for path in paths.CONFIGS.iterdir() if path.is_dir()))
NAMED = re.compile(rf'(?<![\w/.-])(?:configs/[\w/]+\.py|(?:{METHODS})/\w[\w/]*\.py|work_dirs/(?:{METHODS})/\w+)')


def config_of(name):
    """The file that is named."""
    place = name.removeprefix('configs/').removeprefix('work_dirs/')
    return paths.CONFIGS / (place if place.endswith('.py') else f'{place}.py')


def test_configs_that_are_named_exist():
    missing = []
    for text in TEXTS:
        for name in NAMED.findall(text.read_text(encoding='utf-8')):
            if not config_of(name).is_file() and name not in EXAMPLES and 'NAME' not in name:
                missing.append(f'{text.relative_to(paths.ROOT)}: {name}')
    assert not missing


def test_names_are_read_in_every_form():
    text = 'work_dirs/clip/vitt16_flickr8k/iter_9.pth, (clip/a.py) and configs/b/c.py, mmmaskclip/models/clip/d.py'
    assert NAMED.findall(text) == ['work_dirs/clip/vitt16_flickr8k', 'clip/a.py', 'configs/b/c.py']
    assert config_of('work_dirs/clip/vitt16_flickr8k') == config_of('clip/vitt16_flickr8k.py')


def test_few_lines_are_copied_between_configs():
    copied = copied_lines(paths.CONFIGS)
    assert sum(copied.values()) < 400, {path.name: lines for path, lines in copied.items() if lines}


def test_copied_lines_are_counted(tmp_path):
    shared = '\n\n'.join(f'a{index} = {index}' for index in range(7))
    (tmp_path / 'a.py').write_text(f'{shared}\nb = 1\n')
    (tmp_path / 'b.py').write_text(f'c = 1\n{shared}\n')
    (tmp_path / 'c.py').write_text('\n'.join(shared.split()[:5]))
    assert [copied_lines(tmp_path)[tmp_path / f'{name}.py'] for name in 'abc'] == [7, 7, 0]


def depth(path):
    bases = Config._get_base_files(str(path))
    ours = [(path.parent / base).resolve() for base in bases if '::' not in base]
    return 1 + max(map(depth, ours)) if ours else 0


def test_chains_of_bases_are_short():
    chains = {path: depth(path) for path in paths.CONFIGS.rglob('*.py')}
    assert not {path.name: hops for path, hops in chains.items() if hops > 3}
    assert max(chains.values()) == 3


def test_data_is_below_data_unless_the_environment_says_otherwise():
    for path in paths.CONFIGS.rglob('*.py'):
        for name, default in re.findall(r'\{\{\$(\w+):([^}]*)\}\}', path.read_text()):
            assert default.split('/')[0] == 'data', f'{path}: {name}'


@pytest.mark.parametrize('folder', folders(), ids=lambda folder: str(folder.relative_to(paths.CONFIGS)))
def test_readme_is_that_of_the_headers(folder):
    # `python tests/config_tables.py` writes them.
    assert (folder / 'README.md').read_text(encoding='utf-8') == readme(folder)
    for path in folder.glob('*.py'):
        row = header(path)
        assert row['title'], path
        assert row['here'] != '—', f'{path}: say what was measured, or that it was not run'
        assert f'configs/{path.relative_to(paths.CONFIGS)}' in row['command'], path
