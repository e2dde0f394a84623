import gc
import os
import random
import threading
import weakref
from copy import deepcopy
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from options import MAP_STYLE, VALIDATION
from torch.distributed import HashStore

from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.engine.run_state import config_fingerprints, differing_keys, versions
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.store import compare_ranks

# Like the configs of downstream tasks, whose loops are mmengine's.
DOWNSTREAM = {
    'custom_hooks': [],
    'default_hooks.runtime_info': {'type': 'mmengine.RuntimeInfoHook'},
    'log_processor': {'type': 'mmengine.LogProcessor'},
    'randomness.diff_rank_seed': False,
}
BY_EPOCH = {'param_scheduler': [{'type': 'CosineAnnealingLR', 'begin': 0, 'end': 2, 'convert_to_iter_based': True}]}
BEST = {'default_hooks.checkpoint.save_best': 'tiny/sum', 'default_hooks.checkpoint.rule': 'greater'}
FORMS = {
    'by a validation': MAP_STYLE | VALIDATION | BEST,
    'pretraining': MAP_STYLE,
    'half precision': MAP_STYLE | {'optim_wrapper.precision': 'fp16'},
    'by epochs': MAP_STYLE
    | {
        'train_cfg': {'_delete_': True, 'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 2},
        'train_dataloader.drop_last': True,
        'default_hooks.checkpoint': {'by_epoch': True, 'interval': 1},
        **DOWNSTREAM,
    },
    'by iterations': MAP_STYLE
    | {
        'train_cfg': {'_delete_': True, 'type': 'mmengine.IterBasedTrainLoop', 'max_iters': 16},
        'train_dataloader.sampler': {'type': 'InfiniteSampler', 'shuffle': True},
        **DOWNSTREAM,
    },
}


@MODELS.register_module()
class NoisyModel(BaseModel):
    """Uses every generator in every step."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.logit_scale = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def forward(self, image, key, skipped=None, mode='loss'):
        if mode == 'predict':
            torch.rand(3), random.random(), np.random.rand()
            return [{'image_embed': row} for row in image]
        self.seen += key
        noise = random.random() + float(np.random.rand())
        output = torch.nn.functional.dropout(self.layer(image), 0.5) + noise
        return {'square_loss': output.square().mean() * self.logit_scale.exp()}

    def set_progress(self, progress): ...

    def after_optimizer_step(self): ...


@pytest.fixture
def noisy_runner(tiny_runner):
    # A copy, because merging takes '_delete_' out.
    return lambda **options: tiny_runner(model={'_delete_': True, 'type': 'NoisyModel'}, **deepcopy(options))


def log(tmp_path):
    return ''.join(path.read_text() for path in (tmp_path / 'run').glob('*/*.log'))


@pytest.mark.parametrize('form', FORMS)
def test_resumed_run_draws_what_the_uninterrupted_one_drew(noisy_runner, tmp_path, form):
    whole = noisy_runner(**FORMS[form])
    whole.train()
    name = {'by epochs': 'epoch_1.pth', 'by a validation': 'iter_8.pth'}.get(form, 'iter_5.pth')
    late = noisy_runner(**FORMS[form], load_from=str(tmp_path / 'run' / name), resume=True)
    late.train()
    assert late.model.seen == whole.model.seen[-len(late.model.seen) :]
    assert len(late.model.seen) == (22 if name == 'iter_5.pth' else 16)
    torch.testing.assert_close(late.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(late.optim_wrapper.state_dict(), whole.optim_wrapper.state_dict(), rtol=0, atol=0)


def test_validation_and_the_start_of_an_epoch_leave_the_generators_alone(noisy_runner):
    runner = noisy_runner(**MAP_STYLE, **VALIDATION)
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    runner.val()
    next(iter(loader))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_checkpoint_holds_all_that_a_run_consists_of(noisy_runner, tmp_path):
    runner = noisy_runner(**FORMS['half precision'], **VALIDATION, **BEST)
    runner.train()
    checkpoint = read_checkpoint(tmp_path / 'run/iter_16.pth')
    meta, hub, optimizer = checkpoint['meta'], checkpoint['message_hub']['runtime_info'], checkpoint['optimizer']
    assert checkpoint['state_dict'].keys() == runner.model.state_dict().keys()
    assert len(optimizer['state']) == 3
    assert optimizer['scaler'].keys() == runner.optim_wrapper.scaler.state_dict().keys()
    assert optimizer['steps_taken'] + optimizer['steps_skipped'] == 16
    # The first ends after four steps, where the second begins; skipped steps move neither.
    last_steps = [schedule['last_step'] for schedule in checkpoint['param_schedulers']]
    assert last_steps == [3, optimizer['steps_taken'] - 4]
    (random_states,) = checkpoint['random_states']
    assert random_states.keys() == {'python', 'numpy', 'torch', 'cuda'}
    assert (meta['iter'], meta['seed']) == (16, 0)
    best = Path(hub['best_ckpt']).name
    assert hub['best_score'] == read_checkpoint(tmp_path / 'run' / best)['message_hub']['runtime_info']['best_score']
    assert {name: value for name, value in meta['mmmaskclip'].items() if 'config' not in name} == {
        'world_size': 1,
        'batch_size': 2,
        'accumulative_counts': 1,
        'dataset_size': 16,
        'batches_per_epoch': 8,
        'samples_seen': 32,
        'seed': 0,
        'versions': versions(),
    }
    assert meta['mmmaskclip']['config_parts'] == config_fingerprints(runner.cfg)


@pytest.mark.parametrize(('form', 'name'), [('by epochs', 'epoch_2.pth'), ('by iterations', 'iter_16.pth')])
def test_checkpoint_of_mmengines_loops_holds_the_same(noisy_runner, tmp_path, form, name):
    noisy_runner(**FORMS[form]).train()
    checkpoint = read_checkpoint(tmp_path / 'run' / name)
    parts = {'meta', 'state_dict', 'message_hub', 'random_states', 'optimizer', 'param_schedulers'}
    assert checkpoint.keys() == parts
    ours = checkpoint['meta']['mmmaskclip']
    assert (ours['dataset_size'], ours['batches_per_epoch'], ours['samples_seen']) == (16, 8, 32)


def test_samples_seen_are_counted_over_changes_of_the_batch(noisy_runner, tmp_path):
    noisy_runner(**MAP_STYLE, **BY_EPOCH).train()
    options = {**MAP_STYLE, **BY_EPOCH, 'train_dataloader.batch_size': 4, 'resume': True}
    # Of 10 samples in 5 iterations, 2 iterations with 4 stand for 8; 6 more follow, at once or in two runs.
    for _ in range(2):
        noisy_runner(**options, load_from=str(tmp_path / 'run/iter_5.pth')).train()
        assert read_checkpoint(tmp_path / 'run/iter_8.pth')['meta']['mmmaskclip']['samples_seen'] == 10 + 24


@pytest.mark.parametrize('option', [{'train_dataloader.batch_size': 4}, {'train_dataloader.dataset.size': 18}])
def test_config_of_mixed_keys_has_fingerprints_that_tell_changes(noisy_runner, option):
    fingerprints = [
        config_fingerprints(noisy_runner(**MAP_STYLE, **given, palette={1: 'a', 'b': (2,), (3, 4): None}).cfg)
        for given in ({}, {}, option)
    ]
    assert fingerprints[0] == fingerprints[1]
    assert differing_keys(*fingerprints[1:]) == ['train_dataloader']


def test_all_ranks_load_what_the_first_one_found(noisy_runner, monkeypatch):
    def broadcast(values):
        values[0] = ('iter_5.pth', True)

    runner, resumed = noisy_runner(**MAP_STYLE, load_from='iter_10.pth'), []
    told = []
    monkeypatch.setattr('mmmaskclip.engine.runner.broadcast_object_list', broadcast)
    monkeypatch.setattr('mmmaskclip.engine.runner.print_log', lambda text, **_: told.append(text))
    monkeypatch.setattr(runner, 'resume', resumed.append)
    runner.load_or_resume()
    assert resumed == ['iter_5.pth']
    assert (
        "load_from and resume ('iter_10.pth', False), rank 0 has ('iter_5.pth', True), which all ranks use" in told[0]
    )


def test_another_config_is_told_by_its_keys(noisy_runner, tmp_path):
    noisy_runner(**MAP_STYLE).train()
    # The seed is taken from the checkpoint.
    options = {'optim_wrapper.optimizer.lr': 0.5, 'default_hooks.logger.interval': 3, 'randomness.seed': 5}
    late = noisy_runner(**MAP_STYLE, **options, load_from=str(tmp_path / 'run/iter_10.pth'), resume=True)
    late.train()
    told = [line for line in log(tmp_path).splitlines() if 'The config differs' in line]
    assert len(told) == 1
    assert 'iter_10.pth in optim_wrapper: the run does not continue as the interrupted one would have' in told[0]
    assert (late.seed, late.optim_wrapper.param_groups[0]['initial_lr']) == (0, 0.01)


def test_a_run_that_is_over_leaves_no_model_in_memory(tiny_runner):
    runner = tiny_runner(**MAP_STYLE, **VALIDATION)
    runner.train()
    model = weakref.ref(runner.model)
    del runner
    gc.collect()
    assert model() is None


def test_checkpoint_of_mmengines_own_runner_is_resumed_with_a_word(noisy_runner, tmp_path):
    cfg = noisy_runner(**MAP_STYLE).cfg
    cfg.default_hooks.checkpoint = {'type': 'mmengine.CheckpointHook', 'by_epoch': False, 'interval': 5}
    # It asks the Runner for what mmengine's has not.
    cfg.default_hooks.pop('preemption')
    cfg.experiment_name += 'of mmengine'
    whole = Runner.from_cfg(cfg)
    whole.train()
    late = noisy_runner(**MAP_STYLE, load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    late.train()
    assert late.model.seen == whole.model.seen[10:]
    assert "iter_5.pth is of mmengine's own Runner and holds no random states" in log(tmp_path)
    histories = [runner.message_hub.get_scalar('train/square_loss').data[0].tolist() for runner in (late, whole)]
    assert len(histories[0]) == len(histories[1]) == 4
    assert histories[0][0] == histories[1][0]


class _Harmful:
    def __reduce__(self):
        return os.mkdir, ('harm',)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Address of the folder of the test."""
    monkeypatch.setenv('no_proxy', '*')
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path / 'hub'))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    server = ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_code_in_a_checkpoint_from_elsewhere_is_not_run(noisy_runner, tmp_path, monkeypatch, server):
    noisy_runner(**MAP_STYLE).train()
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint('run/iter_10.pth')
    checkpoint['message_hub']['log_scalars'] = {}
    checkpoint['meta']['config'] = "import os\nos.mkdir('harm')"
    torch.save(checkpoint, 'config.pth')
    late = noisy_runner(**MAP_STYLE, load_from=f'{server}/config.pth', resume=True)
    late.train()
    assert len(late.model.seen) == 12
    assert not Path('harm').exists()
    (tmp_path / 'config-00000000.pth').write_bytes(b'other')
    with pytest.raises(RuntimeError, match='invalid hash'):
        noisy_runner(**MAP_STYLE, load_from=f'{server}/config-00000000.pth').train()


@pytest.mark.parametrize('how', ['load', 'resume'])
def test_code_in_a_checkpoint_is_not_run(noisy_runner, tmp_path, monkeypatch, how):
    noisy_runner(**MAP_STYLE).train()
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(tmp_path / 'run/iter_10.pth')
    # What mmengine would read as a config, in Python.
    checkpoint['meta']['config'] = "import os\nos.mkdir('harm')"
    checkpoint['message_hub']['log_scalars'] = {}
    torch.save(checkpoint, 'config.pth')
    noisy_runner(**MAP_STYLE, load_from='config.pth', resume=how == 'resume').train()
    torch.save(checkpoint | {'harm': _Harmful()}, 'pickle.pth')
    with pytest.raises(ValueError, match='could run code, so it is not loaded'):
        noisy_runner(**MAP_STYLE, load_from='pickle.pth', resume=how == 'resume').train()
    assert not Path('harm').exists()


def test_weights_alone_and_weights_of_another_model_are_not_resumed(noisy_runner, tmp_path):
    noisy_runner(**MAP_STYLE).train()
    checkpoint = read_checkpoint(tmp_path / 'run/iter_10.pth')
    torch.save({'state_dict': checkpoint['state_dict'], 'meta': {}}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'has no optimizer, message_hub, meta\.epoch, meta\.iter: .* load_from='):
        noisy_runner(**MAP_STYLE, load_from=str(tmp_path / 'weights.pth'), resume=True).train()
    noisy_runner(**MAP_STYLE, load_from=str(tmp_path / 'weights.pth')).train()
    torch.save({'other.weight': torch.ones(1)}, tmp_path / 'another.pth')
    with pytest.raises(ValueError, match=r"Nothing in .*another\.pth' is of .* has other\.weight"):
        noisy_runner(**MAP_STYLE, load_from=str(tmp_path / 'another.pth')).train()
    del checkpoint['state_dict']['layer.bias']
    checkpoint['message_hub']['log_scalars'] = {}
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match=r'layer\.bias'):
        noisy_runner(**MAP_STYLE, load_from=str(tmp_path / 'other.pth'), resume=True).train()


def test_ranks_with_another_config_end_before_the_first_step(tiny_runner, monkeypatch):
    store, runner = HashStore(), tiny_runner()
    facts = {'config optim_wrapper': 'another'}
    rank_1 = Thread(target=_refused, args=(facts, 'before the first step', store, 1, 2), daemon=True)
    monkeypatch.setattr('mmmaskclip.engine.start_checks.own_store', lambda: store)
    monkeypatch.setattr(type(runner), 'world_size', 2)
    rank_1.start()
    with pytest.raises(RuntimeError, match=r'before the first step.* config optim_wrapper: .* another on rank 1'):
        runner.train()
    assert not runner.model.seen
    rank_1.join(20)


def _refused(*arguments):
    with pytest.raises(RuntimeError, match='do not fit together'):
        compare_ranks(*arguments)


def test_none_leaves_any_hook_out(tiny_runner):
    runner = tiny_runner(**{'default_hooks.similarity_maps': None, 'default_hooks.preemption': None})
    assert not any(type(hook).__name__ == 'PreemptionHook' for hook in runner.hooks)
