import hashlib
import json

import paths
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import save_checkpoint
from PIL import Image

from mmmaskclip.cli.other_model import use_model
from mmmaskclip.cli.test import command, main
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.registry import TRANSFORMS

TINY = paths.TINY / 'tiny.py'


@pytest.fixture
def evaluate(monkeypatch, tmp_path):
    """Returns a function that evaluates a checkpoint with the tiny config."""
    monkeypatch.syspath_prepend(str(TINY.parent))
    return lambda checkpoint, *arguments: main([str(TINY), str(checkpoint), '--work-dir', str(tmp_path), *arguments])


@pytest.fixture
def weights():
    """A state dict of the tiny model."""
    layers = {f'{layer}.{name}': torch.ones(shape) for layer in ('layer', 'teacher')
              for name, shape in (('weight', (4, 4)), ('bias', (4,)))}  # fmt: skip
    return layers | {'logit_scale': torch.ones(())}


def test_metrics_are_printed_returned_and_written(evaluate, weights, tmp_path, capsys):
    save_checkpoint({'state_dict': weights}, str(tmp_path / 'a.pth'))
    metrics = evaluate(tmp_path / 'a.pth', '--out', str(tmp_path / 'results/a.json'))
    images = torch.stack([torch.randn(4, generator=torch.Generator().manual_seed(index)) for index in range(7)])
    expected = (4 * (images.sum(1) + 1)).sum().item()  # all weights are one
    assert metrics == pytest.approx({'tiny/sum': expected, 'tiny/count': 7})
    written = json.loads((tmp_path / 'results/a.json').read_text())
    record = written.pop('record')
    assert record['weights'] == hashlib.sha256((tmp_path / 'a.pth').read_bytes()).hexdigest()
    assert (record['precision'], record['model']['type']) == ('float32', 'TinyModel')
    assert {'test_dataloader', 'test_evaluator', 'test_cfg', 'prompts', 'versions'} <= set(record)
    assert written == {'config': str(TINY), 'checkpoint': str(tmp_path / 'a.pth'), 'metrics': metrics}
    assert '\ntiny/count   7.0000\n' in capsys.readouterr().out


def test_none_is_the_untrained_model_and_always_the_same(evaluate):
    assert evaluate('none') == evaluate('none')


def test_checkpoint_of_another_model_is_refused_with_the_keys(evaluate, weights, tmp_path):
    del weights['logit_scale']
    torch.save(weights | {'decoder.weight': torch.ones(1)}, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'1 missing: logit_scale; 1 not in the model: decoder\.weight'):
        evaluate(tmp_path / 'other.pth')


def test_config_without_test_tasks_is_named(tmp_path):
    (tmp_path / 'c.py').write_text("default_scope = 'mmmaskclip'")
    with pytest.raises(ConfigMistake, match='has no test_dataloader'):
        main([str(tmp_path / 'c.py'), 'none'])


def test_entry_point_succeeds_with_exit_status_0(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TINY.parent))
    monkeypatch.setattr('sys.argv', ['mmmaskclip-test', str(TINY), 'none', '--work-dir', str(tmp_path), '--amp'])
    # The script that setuptools writes calls sys.exit on the result.
    assert command() is None


TASKS = """
default_scope = 'mmmaskclip'
test_dataloader = dict(
    a=dict(dataset=dict(transforms=[
        dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224),
        dict(type='torchvision/Pad', padding=1)])),
    b=dict(dataset=dict(type='B', size=7, views=dict(image=[dict(type='torchvision/Resize', size=224)]))))
test_evaluator = dict(
    a=[dict(type='Probe', train_dataloader=dict(dataset=dict(transforms=[dict(type='torchvision/Resize', size=224)])))])
"""


@pytest.mark.parametrize(('img_size', 'expected'), [('64', 64), ('(64, 64)', 64), ('(64, 32)', [64, 32])])
def test_model_of_another_config_with_its_image_size(tmp_path, img_size, expected):
    (tmp_path / 'tasks.py').write_text(TASKS + "model = dict(type='Old', left_over=1)")
    (tmp_path / 'model.py').write_text(f"model = dict(type='New', image_encoder=dict(img_size={img_size}))")
    cfg = Config.fromfile(tmp_path / 'tasks.py')
    use_model(cfg, str(tmp_path / 'model.py'))
    assert cfg.model.type == 'New'
    assert 'left_over' not in cfg.model
    assert [step.get('size') for step in cfg.test_dataloader.a.dataset.transforms] == [expected, expected, None]
    assert cfg.test_dataloader.b.dataset.size == 7
    assert cfg.test_dataloader.b.dataset.views.image[0].size == expected
    assert cfg.test_evaluator.a[0].train_dataloader.dataset.transforms[0].size == expected


def test_a_model_of_any_shape_gets_whole_images_one_at_a_time(tmp_path):
    (tmp_path / 'tasks.py').write_text(TASKS)
    model = dict(
        image_encoder=dict(img_size=256), data_preprocessor=dict(resize_mode='patches', interpolation='bilinear')
    )
    (tmp_path / 'model.py').write_text(f'model = {model}')
    cfg = Config.fromfile(tmp_path / 'tasks.py')
    use_model(cfg, str(tmp_path / 'model.py'))
    resize = dict(type='ResizeToPatches', interpolation='bilinear', max_patches=256)
    assert cfg.test_dataloader.a.dataset.transforms == [resize, dict(type='torchvision/Pad', padding=1)]
    assert cfg.test_dataloader.b.dataset.views.image == [resize]
    assert cfg.test_dataloader.a.batch_size == cfg.test_dataloader.b.batch_size == 1
    assert cfg.test_evaluator.a[0].train_dataloader.dataset.transforms == [resize]
    # A wide photograph keeps its shape.
    assert TRANSFORMS.build(resize)(Image.new('RGB', (600, 200))).size == (432, 144)


def test_what_a_model_does_not_ask_for_is_left_alone(tmp_path):
    nested = dict(type='torchvision/Compose', transforms=[dict(type='torchvision/Resize', size=(224, 224))])
    captions = dict(type='ImageTextPairs', views=dict(image=[nested]), context_length=77)
    others = dict(type='LabelledImages', transforms=[nested, dict(type='torchvision/Resize', size=224)])
    tasks = {'a': dict(dataset=captions), 'b': dict(dataset=others)}
    (tmp_path / 'tasks.py').write_text(f'test_dataloader = {tasks}\ntest_evaluator = dict()')
    model = dict(image_encoder=dict(img_size=112), text_encoder=dict(context_length=248))
    (tmp_path / 'model.py').write_text(f'model = {model}')
    cfg = Config.fromfile(tmp_path / 'tasks.py')
    use_model(cfg, str(tmp_path / 'model.py'))
    captions, others = cfg.test_dataloader.a.dataset, cfg.test_dataloader.b.dataset
    assert captions.views.image[0] == others.transforms[0] == nested
    assert others.transforms[1].size == 112
    assert (captions.context_length, 'context_length' in others) == (248, False)


def test_metrics_of_the_model_of_another_config(evaluate, tmp_path):
    (tmp_path / 'model.py').write_text("model = dict(type='TinyModel')")
    out = tmp_path / 'a.json'
    assert evaluate('none', '--model', str(tmp_path / 'model.py'), '--out', str(out)) == evaluate('none')
    assert json.loads(out.read_text())['model'] == str(tmp_path / 'model.py')


def test_config_without_model_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr('mmmaskclip.config_check.check.check_config', lambda cfg: None)  # its parts are made up
    (tmp_path / 'tasks.py').write_text(TASKS)
    with pytest.raises(ConfigMistake, match=r'tasks\.py has no model: say with --model'):
        main([str(tmp_path / 'tasks.py'), 'none'])
    with pytest.raises(ConfigMistake, match='--model takes a config'):
        main([str(tmp_path / 'tasks.py'), 'none', '--model', 'nothing.pth'])
    with pytest.raises(ConfigMistake, match='has no model: --model takes the config'):
        main([str(tmp_path / 'tasks.py'), 'none', '--model', str(tmp_path / 'tasks.py')])


def test_mistakes_are_named_before_anything_is_built(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr('mmmaskclip.cli.test.evaluate', None)  # never reached
    (tmp_path / 'model.py').write_text("model = dict(type='TinyModl')")
    (tmp_path / 'iter_10.pth').touch()
    with pytest.raises(ConfigMistake, match='Did you mean TinyModel'):
        evaluate('none', '--model', str(tmp_path / 'model.py'))
    with pytest.raises(ConfigMistake, match=r'checkpoint=.*Did you mean .*/iter_10\.pth'):
        evaluate(tmp_path / 'iter_1.pth')
    with pytest.raises(ConfigMistake, match='--out .*: it is a folder'):
        evaluate('none', '--out', str(tmp_path))
