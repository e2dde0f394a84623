import json

import pytest

from mmmaskclip.datasets import ClassCaptionShards
from mmmaskclip.datasets.transforms.tokenize import tokenize

CLASSES = ['cat', ['dog', 'hound'], 'bird']
TEMPLATES = ['a photo of a {}', 'one {}']


def _shard(tools, path, labels):
    samples = {f'{i:03d}': {'jpg': tools.good(i)['jpg'], 'cls': str(label).encode()} for i, label in enumerate(labels)}
    return tools.write_tar(path, samples)


@pytest.fixture
def read(tools):
    def read(url, epoch=0, seed=0, **kwargs):
        kwargs = {'classes': CLASSES, 'templates': TEMPLATES, **kwargs}
        dataset = ClassCaptionShards(url, views=tools.views, shuffle_buffer=4, **kwargs)
        dataset.begin_epoch(epoch, seed, batch_size=1)
        return sorted(dataset, key=lambda sample: sample['key'])

    return read


def _texts(sample, candidates):
    return [text for text in candidates if sample['tokens'].tolist() == tokenize([text])[0].tolist()]


def test_captions_are_templates_filled_with_the_class(tools, tmp_path, read):
    labels = [0, 1, 2, 'hound', 'cat', ' 1\n'] * 10
    samples = read(_shard(tools, tmp_path / 'a.tar', labels))
    expected = {0: 0, 1: 1, 2: 2, 'hound': 1, 'cat': 0, ' 1\n': 1}
    captions = {0: ['cat'], 1: ['dog', 'hound'], 2: ['bird']}
    seen = set()
    for given, sample in zip(labels, samples, strict=True):
        assert sample['label'] == expected[given]
        possible = [template.format(name) for template in TEMPLATES for name in captions[sample['label']]]
        (text,) = _texts(sample, possible)
        seen.add(text)
    assert len(seen) == 8  # every template with every name


def test_the_template_follows_the_seed(tools, tmp_path, read):
    url = _shard(tools, tmp_path / 'a.tar', [0] * 20)

    def tokens(**kwargs):
        return [sample['tokens'].tolist() for sample in read(url, **kwargs)]

    assert tokens() == tokens()
    assert tokens(epoch=1) != tokens()
    assert tokens(seed=1) != tokens()


def test_bad_labels_are_skipped(tools, tmp_path, read):
    labels = [0, 3, 'horse', -1, 1, 2, 0, 1]
    url = _shard(tools, tmp_path / 'a.tar', labels)
    samples = read(url)
    records = [record for sample in samples for record in sample['skipped']]
    assert {record['cause'] for record in records} == {'unknown_label'}
    assert sorted(record['key'][-3:] for record in records) == ['001', '002', '003']
    assert {sample['label'] for sample in samples} <= {0, 1, 2}


def test_missing_labels_are_found_before_training(tools, tmp_path):
    url = tools.write_tar(tmp_path / 'a.tar', {'0': tools.good(0)})
    dataset = ClassCaptionShards(url, tools.views, CLASSES, TEMPLATES)
    with pytest.raises(ValueError, match='expected cls, no cls among jpg, json, txt'):
        dataset.preflight()
    dataset = ClassCaptionShards(_shard(tools, tmp_path / 'b.tar', [7]), tools.views, CLASSES, TEMPLATES)
    with pytest.raises(ValueError, match="'7' is neither a number below 3 nor a class"):
        dataset.preflight()
    ClassCaptionShards(_shard(tools, tmp_path / 'c.tar', [2]), tools.views, CLASSES, TEMPLATES).preflight()


def test_classes_and_templates_from_files(tools, tmp_path, read):
    url = _shard(tools, tmp_path / 'a.tar', [1])
    names = tmp_path / 'names.txt'
    names.write_text('red circle\nred square\n')
    (sample,) = read(url, classes=str(names), templates=['a {}'])
    assert _texts(sample, ['a red square'])
    prompts = tmp_path / 'p.json'
    prompts.write_text(json.dumps({'source': 's', 'templates': ['the {}'], 'classes': ['x', 'y']}))
    (sample,) = read(url, classes=str(prompts), templates=None)
    assert _texts(sample, ['the y'])
    dataset = ClassCaptionShards(url, tools.views, 'scenes')
    assert dataset.num_classes == 40


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(classes=[]), 'classes are empty'),
        (dict(classes='imagenet_7'), "the prompt file 'imagenet_7' has no classes"),
        (dict(templates=None), 'templates are missing'),
        (dict(templates=['no place']), "template 'no place' needs exactly one"),
        (dict(classes=['cat', ' ']), 'class 1 has no name'),
    ],
)
def test_wrong_options(tools, tmp_path, options, message):
    url = _shard(tools, tmp_path / 'a.tar', [0])
    with pytest.raises(ValueError, match=message):
        ClassCaptionShards(url, tools.views, **{'classes': CLASSES, 'templates': TEMPLATES, **options})
