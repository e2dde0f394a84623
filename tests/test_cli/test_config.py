import argparse

import pytest

from mmmaskclip.cli.config import add_config_arguments, load_config

CONFIG = """
model = dict(parts=[dict(depth=3)])
train_dataloader = dict(batch_size=2)
work_dir = {work_dir!r}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Returns a function that loads a config in configs/method/ with command line arguments."""
    folder = tmp_path / 'configs/method'
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    def run(*arguments, config='configs/method/vitb16.py', work_dir=None):
        (folder / 'vitb16.py').write_text(CONFIG.format(work_dir=work_dir))
        parser = argparse.ArgumentParser()
        add_config_arguments(parser)
        return load_config(parser.parse_args([config, *arguments]))

    return run


def test_work_dir_comes_from_the_command_line_then_the_config_then_its_name(load):
    assert load('--work-dir', 'a', work_dir='b').work_dir == 'a'
    assert load(work_dir='b').work_dir == 'b'
    assert load().work_dir == 'work_dirs/method/vitb16'
    assert load().launcher == 'none'


@pytest.mark.parametrize(
    'option',
    ['train_dataloader.batch_size=8', 'train_dataloader.prefetch_factor=4', 'model.parts.0.depth=5', 'resume=True'],
)
def test_options_are_merged(load, option):
    cfg = load('--cfg-options', option)
    key, value = option.split('=')
    node = cfg
    for part in key.split('.'):
        node = node[int(part)] if part.isdigit() else node[part]
    assert str(node) == value


def test_option_may_add_what_a_runner_knows(load):
    assert load('--cfg-options', 'env_cfg.cudnn_benchmark=False').env_cfg.cudnn_benchmark is False


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('train_dataloder.batch_size=8', "no 'train_dataloder' in the config. Did you mean train_dataloader"),
        ('train_dataloader.batchsize=8', "no 'batchsize' in train_dataloader. Did you mean batch_size"),
        ('model.prats.0.depth=8', "no 'prats' in model. Did you mean parts"),
        ('model.parts.1.depth=8', "no '1' in model.parts. There are: 0"),
        ('modle=3', "no 'modle' in the config. Did you mean model"),
    ],
)
def test_mistyped_options_are_refused_and_the_nearest_named(load, option, message):
    with pytest.raises(KeyError, match=message):
        load('--cfg-options', option)


@pytest.mark.parametrize('config', ['configs/method/vitb61.py', 'configs/metod/vitb16.py', 'vitb16.py'])
def test_mistyped_path_names_the_nearest(load, config):
    with pytest.raises(FileNotFoundError, match=r'Did you mean configs/method/vitb16\.py'):
        load(config=config)
