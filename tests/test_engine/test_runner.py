import os
import random
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner

from mmmaskclip.registry import MODELS
from mmmaskclip.utils.checkpoint_files import read_checkpoint

PAIRS = {
    'train_dataloader.dataset': {'type': 'TinyPairs'},
    'train_dataloader.sampler': {'type': 'DefaultSampler', 'shuffle': True},
}
# Like the configs of downstream tasks, whose loops are mmengine's.
DOWNSTREAM = {
    'custom_hooks': [],
    'default_hooks.runtime_info': {'type': 'mmengine.RuntimeInfoHook'},
    'log_processor': {'type': 'mmengine.LogProcessor'},
    'randomness.diff_rank_seed': False,
}
FORMS = {
    'pretraining': PAIRS,
    'by epochs': PAIRS
    | {
        'train_cfg': {'_delete_': True, 'type': 'mmengine.EpochBasedTrainLoop', 'max_epochs': 2},
        'train_dataloader.drop_last': True,
        'default_hooks.checkpoint': {'by_epoch': True, 'interval': 1},
        **DOWNSTREAM,
    },
    'by iterations': PAIRS
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
    name = 'epoch_1.pth' if form == 'by epochs' else 'iter_5.pth'
    late = noisy_runner(**FORMS[form], load_from=str(tmp_path / 'run' / name), resume=True)
    late.train()
    assert late.model.seen == whole.model.seen[-len(late.model.seen) :]
    assert len(late.model.seen) == (16 if form == 'by epochs' else 22)
    torch.testing.assert_close(late.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(late.optim_wrapper.state_dict(), whole.optim_wrapper.state_dict(), rtol=0, atol=0)


def test_validation_and_the_start_of_an_epoch_leave_the_generators_alone(noisy_runner):
    runner = noisy_runner(
        **PAIRS,
        val_dataloader={
            'batch_size': 3,
            'num_workers': 0,
            'dataset': {'type': 'TinyPairs', 'size': 7},
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'collate_fn': {'type': 'mmmaskclip.tiny_collate'},
        },
        val_evaluator={'type': 'TinyMetric'},
        val_cfg={'type': 'ValLoop'},
    )
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    loader = runner.build_dataloader(runner.cfg.train_dataloader, seed=0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    runner.val()
    next(iter(loader))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before


def test_checkpoint_says_what_it_is_of(noisy_runner, tmp_path):
    noisy_runner(**PAIRS).train()
    checkpoint = read_checkpoint(tmp_path / 'run/iter_10.pth')
    meta = checkpoint['meta']
    assert (meta['epoch'], meta['iter']) == (1, 10)
    ours = meta['mmmaskclip']
    assert {key: ours[key] for key in ('world_size', 'batch_size', 'accumulative_counts', 'samples_seen', 'seed')} == {
        'world_size': 1,
        'batch_size': 2,
        'accumulative_counts': 1,
        'samples_seen': 20,
        'seed': 0,
    }
    assert ours['versions']['torch'] == str(torch.__version__)
    assert len(checkpoint['random_states']) == 1


def test_another_config_is_told_by_its_keys(noisy_runner, tmp_path):
    noisy_runner(**PAIRS).train()
    options = {'optim_wrapper.optimizer.lr': 0.5, 'default_hooks.logger.interval': 3}
    noisy_runner(**PAIRS, **options, load_from=str(tmp_path / 'run/iter_10.pth'), resume=True).train()
    told = [line for line in log(tmp_path).splitlines() if 'The config differs' in line]
    assert len(told) == 1
    assert 'iter_10.pth in optim_wrapper: the run goes on with the new values' in told[0]


def test_checkpoint_of_mmengines_own_runner_is_resumed_with_a_word(noisy_runner, tmp_path):
    cfg = noisy_runner(**PAIRS).cfg
    cfg.default_hooks.checkpoint = {'type': 'mmengine.CheckpointHook', 'by_epoch': False, 'interval': 5}
    # It asks the Runner for what mmengine's has not.
    cfg.default_hooks.pop('preemption')
    cfg.experiment_name += 'of mmengine'
    whole = Runner.from_cfg(cfg)
    whole.train()
    late = noisy_runner(**PAIRS, load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    late.train()
    assert late.model.seen == whole.model.seen[10:]
    assert "iter_5.pth is of mmengine's own Runner and holds no random states" in log(tmp_path)
    histories = [runner.message_hub.get_scalar('train/square_loss').data[0].tolist() for runner in (late, whole)]
    assert len(histories[0]) == len(histories[1]) == 4
    assert histories[0][0] == histories[1][0]


class _Harmful:
    def __reduce__(self):
        return os.mkdir, ('harm',)


@pytest.mark.parametrize('how', ['load', 'resume'])
def test_code_in_a_checkpoint_is_not_run(noisy_runner, tmp_path, monkeypatch, how):
    noisy_runner(**PAIRS).train()
    monkeypatch.chdir(tmp_path)
    checkpoint = read_checkpoint(tmp_path / 'run/iter_10.pth')
    # What mmengine would read as a config, in Python.
    checkpoint['meta']['config'] = "import os\nos.mkdir('harm')"
    checkpoint['message_hub']['log_scalars'] = {}
    torch.save(checkpoint, 'config.pth')
    noisy_runner(**PAIRS, load_from='config.pth', resume=how == 'resume').train()
    torch.save(checkpoint | {'harm': _Harmful()}, 'pickle.pth')
    with pytest.raises(ValueError, match='could run code, so it is not loaded'):
        noisy_runner(**PAIRS, load_from='pickle.pth', resume=how == 'resume').train()
    assert not Path('harm').exists()


def test_weights_alone_and_weights_of_another_model_are_not_resumed(noisy_runner, tmp_path):
    noisy_runner(**PAIRS).train()
    checkpoint = read_checkpoint(tmp_path / 'run/iter_10.pth')
    torch.save({'state_dict': checkpoint['state_dict'], 'meta': {}}, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'has no optimizer, message_hub, meta\.epoch, meta\.iter: .* load_from='):
        noisy_runner(**PAIRS, load_from=str(tmp_path / 'weights.pth'), resume=True).train()
    noisy_runner(**PAIRS, load_from=str(tmp_path / 'weights.pth')).train()
    del checkpoint['state_dict']['layer.bias']
    checkpoint['message_hub']['log_scalars'] = {}
    torch.save(checkpoint, tmp_path / 'other.pth')
    with pytest.raises(RuntimeError, match=r'layer\.bias'):
        noisy_runner(**PAIRS, load_from=str(tmp_path / 'other.pth'), resume=True).train()
