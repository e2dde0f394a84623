"""Prompt files and their errors."""

import json
from pathlib import Path

import pytest
from paths import DATA

from mmmaskclip.datasets.prompts import ClassPrompts, as_classes, load_prompts
from mmmaskclip.datasets.prompts import prompt_files as prompts

FILES = sorted(file.stem for file in Path(prompts.__file__).parent.glob('*.json'))
REFERENCE = DATA.parent / 'reference/prompts'
needs_reference = pytest.mark.skipif(not REFERENCE.is_dir(), reason=f'no reference prompts at {REFERENCE}')
# SLIP's eval_zeroshot.py evaluates these in this order.
SLIP26 = (
    'food101 cifar10 cifar100 cub200 sun397 cars aircraft dtd pets caltech101 flowers mnist fer2013 stl10 eurosat '
    'resisc45 gtsrb kitti_distance country211 patch_camelyon ucf101_frames kinetics700_frames clevr_counts '
    'hateful_memes rendered_sst2 imagenet'
)


@pytest.mark.parametrize('name', FILES)
def test_every_file_reads_and_says_its_source(name):
    loaded = load_prompts(name)
    assert loaded.name == name
    assert loaded.source
    assert loaded.templates or loaded.classes
    assert len(set(loaded.templates)) == len(loaded.templates)
    # ImageNet has two pairs of classes with one name each; a name repeated anywhere else is a slip of the pen.
    repeated = {'imagenet': {('missile',), ('sunglasses',)}}.get(name, set())
    assert {names for names in loaded.classes if loaded.classes.count(names) > 1} == repeated


def slip(file, name):
    return json.loads((REFERENCE / f'slip_{file}.json').read_text(encoding='utf-8'))[name]


@needs_reference
@pytest.mark.parametrize('name', SLIP26.split())
def test_prompts_of_the_suite_are_slips(name):
    loaded = load_prompts(name)
    assert list(loaded.templates) == slip('templates', name)
    assert loaded.classes == as_classes(slip('labels', name))


@needs_reference
def test_imagenet_templates_are_slips():
    assert list(load_prompts('imagenet_7').templates) == slip('templates', 'imagenet')


@needs_reference
def test_icinw_differs_from_slip_where_its_toolkit_does():
    assert load_prompts('fer2013_icinw').classes == tuple(names[:1] for names in as_classes(slip('labels', 'fer2013')))
    for name, expected in (
        ('aircraft', {(('F-16A/B',), ('F-16A-B',)), (('F/A-18',), ('F-A-18',))}),
        ('cars', {(('Ram C/V Cargo Van Minivan 2012',), ('Ram C V Cargo Van Minivan 2012',))}),
    ):
        pairs = set(zip(as_classes(slip('labels', name)), load_prompts(f'{name}_icinw').classes, strict=True))
        assert {(theirs, ours) for theirs, ours in pairs if theirs != ours} == expected
        assert list(load_prompts(f'{name}_icinw').templates) == slip('templates', name)
    voc = load_prompts('voc2007')
    assert sorted(voc.classes) == sorted(as_classes(slip('labels', 'voc2007')))
    assert list(voc.templates) == slip('templates', 'voc2007')


def test_80_templates_are_open_clips():
    from open_clip.zero_shot_metadata import OPENAI_IMAGENET_TEMPLATES

    assert list(load_prompts('imagenet_80').templates) == [template('{}') for template in OPENAI_IMAGENET_TEMPLATES]


def test_own_file_with_synonyms(tmp_path):
    path = tmp_path / 'own.json'
    path.write_text(json.dumps({'source': 'me', 'classes': ['cat', ['dog', 'hound']]}))
    loaded = load_prompts(path)
    assert loaded.classes == (('cat',), ('dog', 'hound'))
    assert loaded.templates == ()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match='imagenet, imagenet_7, imagenet_80'):
        load_prompts('imagenet7')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ({'templates': ['a photo']}, "template 'a photo' needs exactly one"),
        ({'templates': ['a {} or {}']}, 'needs exactly one'),
        ({'classes': {'mmpretrain': 'CIFAR11_CATEGORIES'}}, 'CIFAR11_CATEGORIES.* names no list of a library'),
        ({'classes': {'mmpretrain': '__builtins__'}}, 'names no list of a library'),
        ({'templates': {'mmseg': 'imagenett'}}, 'imagenett.* names no list of a library'),
        ({'classes': {'os': 'environ'}}, 'names no list of a library'),
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


@pytest.mark.parametrize(
    ('named', 'message'),
    [
        (['bird', 'cat', 'dog'], "class 0 is 'bird' in the data set and 'cat' in the model: give both"),
        (['cat', 'horse', 'dog'], "class 2 is 'dog' in the data set and 'bird' in the model"),  # the dog has moved
        (['cat', 'dog'], r'the data set has 2 classes \(cat, dog, ...\), the model has 3 \(cat, dog, bird'),
        (['cat', 'hound', 'bird'], None),  # a synonym
        (['Cat', 'Dog', 'Birds'], None),  # other names for the same classes
    ],
)
def test_classes_are_compared_by_name_with_those_of_a_data_set(named, message):
    prompts = ClassPrompts(['cat', ['dog', 'hound'], 'bird'], ['a {}'])
    if message is None:
        prompts.check_order(named, 'the model')
    else:
        with pytest.raises(ValueError, match=message):
            prompts.check_order(named, 'the model')


def test_a_name_of_two_classes_is_no_mistake():
    ClassPrompts(['crane', ['construction crane', 'crane']], ['a {}']).check_order(['crane', 'crane'], 'the model')
