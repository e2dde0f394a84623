"""Pictures of the same images at every validation."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.visualization import Visualizer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmmaskclip.engine.hooks.similarity_maps_hook import SimilarityMapsHook
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.models.open_vocabulary import encode_texts
from mmmaskclip.registry import HOOKS, MODELS


@pytest.fixture
def runner(tiny_model_cfg):
    """A runner after a validation of nine pictures, with the images that it sends."""
    generator = torch.Generator().manual_seed(0)
    cfg = tiny_model_cfg()
    cfg['text_encoder'].update(vocab_size=49408, context_length=8)
    model = MODELS.build(cfg).train()
    side = model.image_encoder.img_size[0]
    samples = [
        {'image': torch.randint(0, 256, (3, side, side), dtype=torch.uint8, generator=generator)} for _ in range(9)
    ]
    sent = []
    loop = object.__new__(EvaluationLoop)
    loop.dataloaders = {'several': SimpleNamespace(dataset=samples)}
    return SimpleNamespace(
        model=model,
        val_loop=loop,
        visualizer=SimpleNamespace(add_image=lambda name, image, step: sent.append((name, image, step))),
        iter=12,
        sent=sent,
    )


def test_every_validation_draws_the_same_pictures(runner):
    hook = SimilarityMapsHook(['cat', 'dog'], count=3)
    hook.before_train(runner)
    state = torch.get_rng_state()
    hook.after_val_epoch(runner, {})
    hook.after_val_epoch(runner, {})
    assert torch.equal(torch.get_rng_state(), state)
    (name, first, step), (_, second, _) = runner.sent
    assert (name, step) == ('similarity_maps', 12)
    assert first.dtype == np.uint8
    assert first.shape[2] == 3
    assert (first == second).all()
    assert runner.model.training
    with torch.no_grad():
        for parameter in runner.model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    hook.after_val_epoch(runner, {})
    assert (runner.sent[2][1] != first).any()


def test_the_maps_are_the_models(runner, monkeypatch):
    rows = []
    monkeypatch.setattr(
        'mmmaskclip.visualization.lay_out_similarity_maps',
        lambda given, words: [rows.extend(given), SimpleNamespace(pixels=lambda _: words)][1],
    )
    SimilarityMapsHook(['cat', 'dog'], count=3).after_val_epoch(runner)
    samples = runner.val_loop.dataloaders['several'].dataset
    model = runner.model.eval()
    for row, index in zip(rows, (0, 4, 8), strict=True):
        image = samples[index]['image']
        assert (row.image == image.permute(1, 2, 0).numpy()).all()
        with torch.no_grad():
            patches = model.encode_dense(model.data_preprocessor({'image': image[None]})['image'])[0]
            maps = torch.einsum('dhw,td->thw', patches, encode_texts(model, ['cat', 'dog']))
        expected = torch.nn.functional.interpolate(maps[None], image.shape[1:], mode='bilinear')[0]
        np.testing.assert_allclose(row.maps, expected, atol=1e-5)


def test_tensorboard_and_the_work_dir_get_them(runner, tmp_path):
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    runner.visualizer = Visualizer(vis_backends=backends, save_dir=str(tmp_path))
    hook = HOOKS.build(dict(type='SimilarityMapsHook', words=['cat']))
    for runner.iter in (12, 24):
        hook.after_val_epoch(runner, {})
    runner.visualizer.close()
    assert (tmp_path / 'vis_data/vis_image/similarity_maps_24.png').is_file()
    (file,) = tmp_path.glob('**/events.out.tfevents*')
    events = EventAccumulator(str(file)).Reload()
    assert [event.step for event in events.Images('similarity_maps')] == [12, 24]


def test_weights_and_biases_gets_numbers_and_pictures_by_one_more_backend(runner, tmp_path, monkeypatch):
    logged = []
    wandb = SimpleNamespace(
        init=lambda **options: None,
        log=lambda content, commit: logged.append(content),
        define_metric=lambda *args, **options: None,
        Image=lambda image: image.shape,
    )
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    runner.visualizer = Visualizer(vis_backends=[dict(type='WandbVisBackend')], save_dir=str(tmp_path))
    runner.visualizer.add_scalar('loss', 1.0, 3)
    SimilarityMapsHook(['cat']).after_val_epoch(runner)
    assert logged[0] == {'loss': 1.0}
    assert logged[1]['similarity_maps'][2] == 3


def test_processes_other_than_the_first_compute_and_send_nothing(runner, monkeypatch):
    monkeypatch.setattr('mmmaskclip.engine.hooks.similarity_maps_hook.is_main_process', lambda: False)
    encoded = []
    encode = runner.model.encode_dense
    monkeypatch.setattr(runner.model, 'encode_dense', lambda *args: [encoded.append(1), encode(*args)][1])
    SimilarityMapsHook(['cat'], count=2).after_val_epoch(runner)
    assert len(encoded) == 2
    assert runner.sent == []


def test_a_run_that_has_nothing_to_draw_is_refused_before_it_trains(runner):
    with pytest.raises(ValueError, match=r'words=\[\]'):
        SimilarityMapsHook([])
    with pytest.raises(ValueError, match='count=0'):
        SimilarityMapsHook(['cat'], count=0)
    with pytest.raises(ValueError, match="task='single': the validation has several"):
        SimilarityMapsHook(['cat'], task='single').before_train(runner)
    runner.val_loop.dataloaders['several'].dataset[4] = {'label': 1}
    with pytest.raises(ValueError, match="the samples of several have no 'image'"):
        SimilarityMapsHook(['cat'], count=3).before_train(runner)
    runner.model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match='Linear has no encode_dense and no encode_text'):
        SimilarityMapsHook(['cat']).before_train(runner)
    runner.val_loop = None
    SimilarityMapsHook(['cat']).before_train(runner)
