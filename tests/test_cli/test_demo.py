"""The command of the page."""

import pytest
from PIL import Image

from mmmaskclip.cli import demo

CONFIG = 'clip/vitxs16_scenes.py'


def test_models_are_read_with_and_without_configs(tmp_path):
    args = demo.parse_args(['none', '--config', CONFIG])
    (model,) = demo.load_models(args)
    assert model.name == 'clip/vitxs16_scenes none'
    assert model.inferencer.image_size == (64, 64)
    args = demo.parse_args(['none', 'none', '--config', CONFIG, '--names', 'a', 'b', '--device', 'cpu'])
    assert [model.name for model in demo.load_models(args)] == ['a', 'b']


@pytest.mark.parametrize(
    ('argv', 'sentence'),
    [
        (['a.pt', 'b.pt', 'c.pt'], '3 checkpoints: the page shows one or two'),
        (['a.pt', '--names', 'a', 'b'], '2 names for 1 checkpoints'),
        (['a.pt', '--config', 'nowhere.py'], 'there is no config nowhere.py'),
        (['none'], 'needs a --config'),
        (['none', '--config', CONFIG, '--examples', '/nowhere'], '/nowhere is no folder'),
    ],
)
def test_mistakes_are_named_before_anything_is_loaded(argv, sentence, capsys):
    with pytest.raises(SystemExit):
        demo.parse_args(argv)
    assert sentence in capsys.readouterr().err


def test_a_missing_checkpoint_is_one_sentence():
    with pytest.raises(SystemExit, match=r'error: .*nowhere\.pt'):
        demo.main(['nowhere.pt'])


def test_examples_are_the_photos_of_a_folder(tmp_path):
    Image.new('RGB', (8, 8)).save(tmp_path / 'a.png')
    (tmp_path / 'b.jpg').write_bytes(b'<html>')
    assert demo.read_examples(tmp_path) == [(tmp_path / 'a.png').read_bytes()]
