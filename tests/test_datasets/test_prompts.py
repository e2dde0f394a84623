"""Prompt files and their errors."""

import json
import os
from pathlib import Path

import pytest

from mmmaskclip.datasets import prompts
from mmmaskclip.datasets.prompts import load_prompts

FILES = sorted(file.stem for file in Path(prompts.__file__).parent.glob('*.json'))
REFERENCE = Path(os.environ.get('MMMASKCLIP_DATA', Path(__file__).parents[2].parent / 'shared/data'))
REFERENCE = REFERENCE.parent / 'reference/prompts/slip_templates.json'


@pytest.mark.parametrize('name', FILES)
def test_every_file_reads_and_says_its_source(name):
    loaded = load_prompts(name)
    assert loaded.name == name
    assert loaded.source
    assert loaded.templates or loaded.classes
    assert len(set(loaded.classes)) == len(loaded.classes)


@pytest.mark.skipif(not REFERENCE.is_file(), reason=f'no reference prompts at {REFERENCE}')
def test_imagenet_templates_are_slips():
    assert list(load_prompts('imagenet_7').templates) == json.loads(REFERENCE.read_text())['imagenet']


def test_own_file_with_synonyms(tmp_path):
    path = tmp_path / 'own.json'
    path.write_text(json.dumps({'source': 'me', 'classes': ['cat', ['dog', 'hound']]}))
    loaded = load_prompts(path)
    assert loaded.classes == (('cat',), ('dog', 'hound'))
    assert loaded.templates == ()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match='imagenet_7, scenes'):
        load_prompts('imagenet7')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'templates': ['a photo']}, "template 'a photo' needs exactly one"),
        ({'templates': ['a {} or {}']}, 'needs exactly one'),
        ({'classes': ['cat', []]}, 'class 1 has no name'),
        ({'classes': ['cat', ' ']}, 'class 1 has no name or an empty one'),
    ],
)
def test_bad_file_is_named(tmp_path, content, message):
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps({'source': 'me', **content}))
    with pytest.raises(ValueError, match=message) as error:
        load_prompts(path)
    assert str(path) in str(error.value)
