import pytest
from mmengine.hooks import Hook

from mmmaskclip.engine.resume_check import check_resume, measure

MAP_STYLE = {
    'train_dataloader.dataset': {'type': 'TinyPairs'},
    'train_dataloader.sampler': {'type': 'DefaultSampler', 'shuffle': True},
    'custom_hooks': [{'type': 'ModelStepHook'}],
}
BY_EPOCH = {
    'param_scheduler': [
        {'type': 'LinearLR', 'start_factor': 0.1, 'begin': 0, 'end': 1, 'convert_to_iter_based': True},
        {'type': 'CosineAnnealingLR', 'begin': 1, 'end': 2, 'convert_to_iter_based': True},
    ]
}


class Rates(Hook):
    """Keeps the learning rate of each iteration."""

    def __init__(self):
        self.seen = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.seen.append(runner.optim_wrapper.param_groups[0]['lr'])


def train(runner):
    rates = Rates()
    runner.register_hook(rates)
    runner.train()
    return rates.seen


def warnings_of(runner, monkeypatch):
    told = []
    monkeypatch.setattr(runner.logger, 'warning', told.append)
    return told


def test_another_batch_size_goes_on_after_the_samples_seen_with_the_schedule_of_a_fresh_run(
    tiny_runner, tmp_path, monkeypatch
):
    whole = tiny_runner(**MAP_STYLE, **BY_EPOCH)
    whole.train()
    options = {**MAP_STYLE, **BY_EPOCH, 'train_dataloader.batch_size': 4}
    rates = train(tiny_runner(**options))
    late = tiny_runner(**options, load_from=str(tmp_path / 'run/iter_10.pth'), resume=True)
    told = warnings_of(late, monkeypatch)
    late_rates = train(late)
    # Ten batches of two are five of four: one epoch of four, and one more.
    assert late.model.seen == whole.model.seen[20:]
    assert late_rates == pytest.approx(rates[5:], abs=1e-12)
    assert late.iter == 8
    assert late.optim_wrapper.steps_taken == 8
    (message,) = [text for text in told if 'Resumed with a difference' in text]
    assert 'batch_size was 2 and is 4' in message
    assert 'epoch 2 after 4 of its samples: iteration 10 is now 5' in message


def test_schedules_that_count_iterations_are_refused(tiny_runner, tmp_path):
    tiny_runner(**MAP_STYLE).train()
    options = {**MAP_STYLE, 'train_dataloader.batch_size': 4}
    late = tiny_runner(**options, load_from=str(tmp_path / 'run/iter_10.pth'), resume=True)
    with pytest.raises(ValueError, match=r'param_scheduler\[0\] \(LinearLR, by_epoch=False\) counts iterations'):
        late.train()


def test_shards_say_that_some_samples_come_twice(tiny_runner, tmp_path, monkeypatch):
    tiny_runner(**BY_EPOCH).train()
    options = {**BY_EPOCH, 'train_dataloader.batch_size': 4}
    late = tiny_runner(**options, load_from=str(tmp_path / 'run/iter_10.pth'), resume=True)
    told = warnings_of(late, monkeypatch)
    late.train()
    assert any('some samples come twice' in text for text in told)


@pytest.mark.parametrize(('size', 'iteration'), [(24, 14), (17, 10)])  # 12 batches per epoch instead of 8, and 8
def test_other_data_goes_on_after_as_many_samples_and_says_so(tiny_runner, tmp_path, monkeypatch, size, iteration):
    tiny_runner(**MAP_STYLE, **BY_EPOCH).train()
    options = {**MAP_STYLE, **BY_EPOCH, 'load_from': str(tmp_path / 'run/iter_10.pth'), 'resume': True}
    late = tiny_runner(**options, **{'train_dataloader.dataset.size': size})
    told = warnings_of(late, monkeypatch)
    late.train()
    assert len(late.model.seen) == size // 2 * 2 - 4
    (message,) = [text for text in told if 'Resumed with a difference' in text]
    assert f'dataset_size was 16 and is {size}' in message
    assert f'after 4 of its samples: iteration 10 is now {iteration}' in message
    assert 'some samples come twice' in message


def test_as_many_samples_per_iteration_on_fewer_processes_change_nothing_else(tiny_runner, tmp_path, monkeypatch):
    runner = tiny_runner(**MAP_STYLE)
    runner.train()
    told = warnings_of(runner, monkeypatch)
    schedules = runner.param_schedulers
    meta = measure(runner.train_loop) | {'world_size': 2, 'batch_size': 1}
    check_resume(meta, runner.train_loop)
    assert runner.iter == 16
    assert runner.param_schedulers is schedules
    assert 'world_size was 2 and is 1' in told[0]


def test_other_loops_refuse_another_global_batch_and_start_an_epoch_again(tiny_runner, tmp_path, monkeypatch):
    plain = {**MAP_STYLE, 'train_cfg': {'_delete_': True, 'type': 'EpochBasedTrainLoop', 'max_epochs': 2}}
    plain |= {'default_hooks.runtime_info': {'type': 'RuntimeInfoHook', '_delete_': True}, 'log_processor': {}}
    runner = tiny_runner(**plain)
    loop = runner.build_train_loop(runner.cfg.train_cfg)
    runner._train_loop = loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.param_schedulers = runner.build_param_scheduler(runner.cfg.param_scheduler)
    meta = measure(loop)
    with pytest.raises(ValueError, match='would stand for 2 samples instead of 8'):
        check_resume({**meta, 'batch_size': 8}, loop)
    told = warnings_of(runner, monkeypatch)
    loop._epoch, loop._iter = 1, 11
    check_resume(meta, loop)
    assert loop.iter == 8
    assert 'epoch 2 starts again' in told[0]
    assert runner.optim_wrapper.param_groups[0]['lr'] == pytest.approx(train(tiny_runner(**MAP_STYLE))[8])
