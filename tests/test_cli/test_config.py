import argparse
import subprocess
import sys

import pytest

from mmmaskclip.cli.config import add_config_arguments, load_config, read_config, run_command
from mmmaskclip.cli.options import read_value
from mmmaskclip.config_check import ConfigMistake

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
    monkeypatch.setattr('mmmaskclip.config_check.check.check_config', lambda cfg: None)  # its parts are made up

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


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('8', 8),
        ('1e-4', 1e-4),
        ('None', None),
        ('true', True),
        ('a,b', ['a', 'b']),
        ('[a,b]', ['a', 'b']),
        ('[1, 2]', [1, 2]),
        ("('a b', 2)", ('a b', 2)),
        ("{'lr_mult': 0.1, 'x': [1]}", {'lr_mult': 0.1, 'x': [1]}),
        ('a photo of a {}, small', 'a photo of a {}, small'),
        ('a photo, of a dog', 'a photo, of a dog'),
        ('{a,b}/{0..3}.tar', '{a,b}/{0..3}.tar'),
    ],
)
def test_values_of_options(text, value):
    assert read_value(text) == value


def test_a_dict_as_an_option_is_merged(load):
    assert load('--cfg-options', "train_dataloader={'num_workers': 3}").train_dataloader == dict(
        batch_size=2, num_workers=3
    )


def test_option_may_add_what_a_runner_knows(load):
    assert load('--cfg-options', 'env_cfg.cudnn_benchmark=False').env_cfg.cudnn_benchmark is False


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('train_dataloder.batch_size=8', "no 'train_dataloder' in the config. Did you mean train_dataloader"),
        ('train_dataloader.batchsize=8', "no 'batchsize' in train_dataloader. Did you mean batch_size"),
        ('model.prats.0.depth=8', "no 'prats' in model. Did you mean parts"),
        ('model.parts.1.depth=8', "no '1' in model.parts. There are: 0"),
        ('model.parts.depth=8', "no 'depth' in model.parts. There are: 0"),
        ('batch_size=8', "no 'batch_size' in the config. Did you mean train_dataloader.batch_size"),
        ('parts.0.depth=8', "no 'parts' in the config. Did you mean model.parts.0.depth"),
        ('train_dataloader.batch_size.x=8', 'train_dataloader.batch_size is 2, which has no keys'),
        ('modle=3', "no 'modle' in the config. Did you mean model"),
    ],
)
def test_mistyped_options_are_refused_and_the_nearest_named(load, option, message):
    with pytest.raises(ConfigMistake, match=message):
        load('--cfg-options', option)


@pytest.mark.parametrize('config', ['configs/method/vitb61.py', 'configs/metod/vitb16.py', 'vitb16.py'])
def test_mistyped_path_names_the_nearest(load, config):
    with pytest.raises(ConfigMistake, match=r'Did you mean configs/method/vitb16\.py'):
        load(config=config)


def test_option_without_a_value_is_named(load, capsys):
    with pytest.raises(SystemExit):
        load('--cfg-options', 'train_dataloader.batch_size')
    assert 'train_dataloader.batch_size: expected KEY=VALUE' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ("model = dict(type='A'", r'base\.py, line 1: SyntaxError'),
        ('model = dict(type=A)', r"child\.py: NameError: name 'A' is not defined"),
        ("_base_ = './bsae.py'", r"there is no '.*bsae\.py'. Did you mean .*/base\.py"),
        ('model = 1', r'child\.py: TypeError: .*_delete_=True'),
    ],
)
def test_config_that_cannot_be_read_is_named(load, tmp_path, text, message):
    (tmp_path / 'base.py').write_text(text)
    (tmp_path / 'child.py').write_text("_base_ = './base.py'\nmodel = dict(x=1)")
    with pytest.raises(ConfigMistake, match=message):
        load(config='child.py')


def test_a_checkpoint_in_the_place_of_the_config_is_named(load, tmp_path):
    (tmp_path / 'epoch_1.pth').write_bytes(b'')
    with pytest.raises(ConfigMistake, match=r"'.*epoch_1\.pth' is no config .*checkpoint comes after it"):
        load(config='epoch_1.pth')


def test_a_mistake_is_printed_without_a_traceback(capsys):
    def main():
        raise ConfigMistake('model.x: nothing reads it.')

    with pytest.raises(SystemExit) as stopped:
        run_command(main)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == 'error: model.x: nothing reads it.\n'


def test_a_shipped_config_is_found_outside_of_a_clone_and_can_be_inherited(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(
        "_base_ = 'mmmaskclip::maskclip/vitxs16_scenes_v1.py'\ntrain_cfg = dict(max_epochs=1)"
    )
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    shipped = load_config(parser.parse_args(['clip/vitxs16_scenes.py']))
    assert shipped.work_dir == 'work_dirs/clip/vitxs16_scenes'
    mine = load_config(parser.parse_args(['mine.py']))
    assert mine.train_cfg.max_epochs == 1
    assert mine.optim_wrapper.optimizer == shipped.optim_wrapper.optimizer
    with pytest.raises(ConfigMistake, match='Did you mean clip/vitxs16_scenes.py'):
        load_config(parser.parse_args(['clip/vitxs16_scene.py']))


def test_a_toolbox_that_a_configs_own_imports_miss_is_one_line(tmp_path, monkeypatch):
    (tmp_path / 'part_for_detection.py').write_text('import mmdet')
    (tmp_path / 'c.py').write_text("custom_imports = dict(imports=['part_for_detection'])")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    monkeypatch.setattr('mmmaskclip.startup.dependencies.find_spec', lambda name: None)
    with pytest.raises(ConfigMistake, match=r"^onedl-mmdetection is not installed, .*: python -m pip install .*'$"):
        read_config(str(tmp_path / 'c.py'))


@pytest.mark.parametrize('command', ['train', 'test'])
def test_help_does_not_import_torch(command):
    code = f"""
import sys
from mmmaskclip.cli.{command} import main
try:
    main(['--help'])
finally:
    print([name for name in ('torch', 'mmengine', 'numpy', 'PIL') if name in sys.modules])
"""
    output = subprocess.run([sys.executable, '-c', code], text=True, capture_output=True, check=True).stdout
    assert output.splitlines()[-1] == '[]'
