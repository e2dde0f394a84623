import copy
import gc
import json
import logging
import types
from contextlib import nullcontext

import pytest
import torch
from mmengine.hooks import Hook
from options import MAP_STYLE, VALIDATION
from ranks import fork_ranks
from settled import FREEZE, UNFREEZE

from mmmaskclip.engine import PretrainLoop, ResumableSampler
from mmmaskclip.engine.loops import pretrain_loop


def trained_state(runner):
    """Everything a resumed run must share with one that was never interrupted."""
    runner.train()
    model, wrapper = runner.model, runner.optim_wrapper
    state = {'parameters': copy.deepcopy(model.state_dict()), 'optimizer': copy.deepcopy(wrapper.state_dict())}
    return state | {'seen': model.seen, 'progress': model.progress, 'dataset': runner.train_loop.dataloader.dataset}


@pytest.mark.parametrize('data', ['map-style', 'iterable'])
@pytest.mark.parametrize('checkpoint', [5, 8, 10])  # 8: at the end of the first epoch
@pytest.mark.parametrize('accumulate', [1, 2])
def test_run_resumed_inside_an_epoch_equals_uninterrupted_one(tiny_runner, tmp_path, data, checkpoint, accumulate):
    if accumulate == 2 and checkpoint == 5:
        pytest.skip('inside an accumulation the gathered gradient is lost, about which mmengine warns')
    options = dict(MAP_STYLE) if data == 'map-style' else {}
    options |= {'optim_wrapper.accumulative_counts': accumulate, 'default_hooks.checkpoint.interval': checkpoint}
    whole = trained_state(tiny_runner(**options))
    late = trained_state(tiny_runner(**options, load_from=str(tmp_path / f'run/iter_{checkpoint}.pth'), resume=True))
    torch.testing.assert_close(late['parameters'], whole['parameters'], rtol=0, atol=0)
    torch.testing.assert_close(late['optimizer'], whole['optimizer'], rtol=0, atol=0)
    assert len(whole['seen']) == 32
    assert late['seen'] == whole['seen'][2 * checkpoint :]
    assert late['progress'] == whole['progress'][checkpoint:]
    # Not only skipped, never loaded.
    assert len(late['dataset'].loaded) == 32 - 2 * checkpoint


@pytest.mark.parametrize('data', ['map-style', 'iterable'])
def test_batches_in_parts_change_nothing_and_resume_exactly(tiny_runner, tmp_path, monkeypatch, data):
    options = dict(MAP_STYLE) if data == 'map-style' else {}
    options |= {'train_dataloader.batch_size': 4, 'train_dataloader.num_workers': 1}
    options |= {'default_hooks.checkpoint.interval': 3}
    whole = trained_state(tiny_runner(**options))
    monkeypatch.setattr(pretrain_loop, 'parts_of', lambda loader: 2)
    in_parts = trained_state(tiny_runner(**options))
    late = trained_state(tiny_runner(**options, load_from=str(tmp_path / 'run/iter_3.pth'), resume=True))
    for state in (in_parts, late):
        torch.testing.assert_close(state['parameters'], whole['parameters'], rtol=0, atol=0)
        torch.testing.assert_close(state['optimizer'], whole['optimizer'], rtol=0, atol=0)
    assert in_parts['seen'] == whole['seen']
    assert late['seen'] == whole['seen'][12:]
    if data == 'iterable':
        assert [call[2:] for call in late['dataset'].calls] == [(2, 6), (2, 0)]


def test_begin_epoch_gets_the_seed_of_the_run_and_the_start(tiny_runner, tmp_path):
    dataset = trained_state(tiny_runner(**{'randomness.seed': 7}))['dataset']
    assert dataset.calls == [(0, 7, 2, 0), (1, 7, 2, 0)]
    path = str(tmp_path / 'run/iter_10.pth')
    dataset = trained_state(tiny_runner(**{'randomness.seed': 7}, load_from=path, resume=True))['dataset']
    assert dataset.calls == [(1, 7, 2, 2)]


def test_default_sampler_is_exchanged_for_one_that_can_start_late(tiny_runner):
    runner = tiny_runner(**MAP_STYLE)
    loop = runner.build_train_loop(runner.cfg.train_cfg)
    assert type(loop.dataloader.sampler) is ResumableSampler
    assert loop.dataloader.drop_last


def test_batch_index_goes_on_where_the_run_stopped(tiny_runner, tmp_path, caplog):
    tiny_runner().train()
    resumed = tiny_runner(load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    with caplog.at_level(logging.INFO):
        resumed.train()
    log = (tmp_path / 'run').glob(f'{resumed.timestamp}/*.log')
    lines = [line for path in log for line in path.read_text().splitlines() if 'Epoch [1/2][' in line]
    assert [line.split('[1/2][')[1].split(']')[0] for line in lines][-1] == '8/8'


def test_preflight_runs_once_and_its_error_stops_the_run(tiny_runner):
    dataset = trained_state(tiny_runner())['dataset']
    assert dataset.preflights == 1
    runner = tiny_runner(**{'train_dataloader.dataset.error': 'shard 00007.tar is empty'})
    with pytest.raises(RuntimeError, match=r'before the first step failed.*ValueError: shard 00007\.tar is empty'):
        runner.train()
    assert not runner.train_loop.dataloader.dataset.loaded


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'train_dataloader.dataset.size': 1}, 'TinyShards has 1 samples, fewer than one global batch: 1 processes x'),
        ({'train_dataloader.drop_last': False}, 'drop_last=False'),
        (MAP_STYLE | {'train_dataloader.sampler': {'type': 'InfiniteSampler'}}, 'InfiniteSampler has begin_epoch'),
    ],
)
def test_unusable_dataloaders_are_refused(tiny_runner, options, message):
    with pytest.raises(ValueError, match=message):
        tiny_runner(**options).train()


def test_a_dataset_that_ends_early_is_an_error(tiny_runner):
    with pytest.raises(RuntimeError, match='TinyShards announced 8 batches per epoch, but epoch 0 ended after 6'):
        tiny_runner(**{'train_dataloader.dataset.delivers': 12}).train()


def _error_of_the_preflight(rank):
    loop = object.__new__(PretrainLoop)
    # On the other rank it would succeed, and that rank would go on to wait for the first.
    dataset = types.SimpleNamespace(preflight=lambda: 1 / rank)
    loop.dataloader = types.SimpleNamespace(dataset=dataset)
    with pytest.raises(RuntimeError) as error:
        loop._preflight()
    return str(error.value)


def test_error_of_the_preflight_on_one_rank_is_raised_on_all(tmp_path):
    errors = fork_ranks(_error_of_the_preflight, tmp_path)
    assert all('ZeroDivisionError: division by zero' in error for error in errors)


def test_seed_of_the_run_is_that_of_every_rank(monkeypatch):
    loop = object.__new__(PretrainLoop)
    loop._runner = types.SimpleNamespace(seed=7 + 3, _randomness_cfg={'diff_rank_seed': True})  # as Runner has it on 3
    monkeypatch.setattr('mmmaskclip.engine.loops.pretrain_loop.get_rank', lambda: 3)
    assert loop._seed == 7


def test_validation_between_iterations_changes_nothing_else(tiny_runner, tmp_path):
    plain = trained_state(tiny_runner())
    options = {'train_cfg.val_interval_iters': 3, 'train_cfg.val_begin': 99}
    runner = tiny_runner(**options, **VALIDATION, **{'default_hooks.logger.log_metric_by_epoch': False})
    validated = trained_state(runner)
    torch.testing.assert_close(validated['parameters'], plain['parameters'], rtol=0, atol=0)
    assert validated['seen'] == plain['seen']
    assert runner.model.training
    log = next((tmp_path / 'run').glob(f'{runner.timestamp}/vis_data/scalars.json')).read_text()
    steps = [row['step'] for row in map(json.loads, log.splitlines()) if 'tiny/count' in row]
    assert steps == [3, 6, 9, 12, 15]


class CountFrozen(Hook):
    """Notes how many objects the garbage collector passes over in each iteration."""

    def __init__(self):
        self.frozen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.frozen.append(gc.get_freeze_count())


@pytest.fixture
def thawed(monkeypatch):
    """The collector as a user's process has it."""
    monkeypatch.setattr(gc, 'freeze', FREEZE)
    monkeypatch.setattr(gc, 'unfreeze', UNFREEZE)
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures('thawed')
@pytest.mark.parametrize('delivers', [16, 12])
def test_garbage_collection_passes_over_what_stands_until_the_end_of_the_run(tiny_runner, delivers):
    """Also when the run ends with an error."""
    before = gc.get_freeze_count()
    runner = tiny_runner(**{'train_dataloader.dataset.delivers': delivers})
    runner.register_hook(counter := CountFrozen())
    with nullcontext() if delivers == 16 else pytest.raises(RuntimeError, match='ended after 6'):
        runner.train()
    assert min(counter.frozen) > before + 10_000
    assert gc.get_freeze_count() == 0


class Killed(BaseException):
    """What ends a process in the middle of a validation."""


class KillIn(Hook):
    """Notes the iterations of finished validations; ends the process in that of iteration ``kill``."""

    def __init__(self, kill=None):
        self.kill, self.validated = kill, []

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.kill:
            raise Killed

    def after_val(self, runner):
        self.validated.append(runner.iter)


@pytest.mark.parametrize('kill', [6, 8, 16])  # between two iterations, after an epoch, at the end of the run
def test_a_validation_that_was_killed_is_repeated_once(tiny_runner, tmp_path, kill):
    by_iterations = {'train_cfg.val_interval_iters': 6, 'train_cfg.val_begin': 99} if kill == 6 else {}
    options = {
        **by_iterations,
        **VALIDATION,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.checkpoint.max_keep_ckpts': 20,
    }
    whole = tiny_runner(**options)
    whole.register_hook(finished := KillIn())
    expected = trained_state(whole)
    for path in (tmp_path / 'run').glob('*.pth'):
        path.unlink()

    killed = tiny_runner(**options)
    killed.register_hook(first := KillIn(kill))
    with pytest.raises(Killed):
        killed.train()
    checkpoint = dict(load_from=str(tmp_path / f'run/iter_{kill}.pth'), resume=True)
    resumed = tiny_runner(**options, **checkpoint)
    resumed.register_hook(second := KillIn())
    found = trained_state(resumed)
    assert first.validated + second.validated == finished.validated
    torch.testing.assert_close(found['parameters'], expected['parameters'], rtol=0, atol=0)
    # It is finished now.
    again = tiny_runner(**options, **checkpoint)
    again.register_hook(third := KillIn())
    (tmp_path / 'run/last_validation').write_text(str(kill))
    again.train()
    assert third.validated == second.validated[1:]


def test_interval_without_anything_to_validate(tiny_runner):
    with pytest.raises(ValueError, match='val_interval_iters=3, but the config has no val_dataloader'):
        tiny_runner(**{'train_cfg.val_interval_iters': 3}).train()
