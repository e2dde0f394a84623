import importlib
import signal

import pytest
import torch
from trainings import train_together


@pytest.fixture
def preempted(tiny_runner):
    """Returns a function that trains with a signal in iteration 5 and gives what ended it."""

    def run(number, **options):
        custom = [{'type': 'ModelStepHook'}, {'type': 'SignalAt', 'number': int(number), 'at': 4}]
        importlib.import_module('fault_parts')
        runner = tiny_runner(custom_hooks=custom, **options)
        with pytest.raises(BaseException) as stopped:  # noqa: PT011 - SystemExit or KeyboardInterrupt
            runner.train()
        for handled in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(handled, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return stopped.value

    options = {'default_hooks.checkpoint.interval': 100}
    return lambda number, **more: run(number, **{**options, **more})


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_saves_the_iteration_and_the_resumed_run_equals_an_uninterrupted_one(
    preempted, tiny_runner, tmp_path, number
):
    stopped = preempted(number)
    assert isinstance(stopped, SystemExit)
    assert stopped.code == 75
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_5.pth']
    custom = {'custom_hooks': [{'type': 'ModelStepHook'}]}
    late = tiny_runner(**custom, load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    whole = tiny_runner(**custom)
    torch.testing.assert_close(late.train().state_dict(), whole.train().state_dict(), rtol=0, atol=0)
    assert late.model.seen == whole.model.seen[10:]


def test_an_accumulation_is_finished_first(preempted, tmp_path):
    assert preempted(signal.SIGTERM, **{'optim_wrapper.accumulative_counts': 4}).code == 75
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_8.pth']


def test_where_the_host_reads_late_the_run_ends_one_step_later(preempted, tmp_path, monkeypatch):
    monkeypatch.setattr('mmmaskclip.engine.step.optim_wrapper._can_skip_on_device', lambda optimizer: True)
    assert preempted(signal.SIGTERM).code == 75
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['iter_6.pth']


def test_a_default_run_makes_no_second_process_group(preempted, monkeypatch):
    # A second transport would find the other hosts by addresses of its own.
    monkeypatch.setattr(torch.distributed, 'new_group', lambda *args, **kwargs: pytest.fail('a second group'))
    assert preempted(signal.SIGTERM).code == 75


def test_ctrl_c_says_where_the_checkpoint_is(preempted, tmp_path):
    stopped = preempted(signal.SIGINT)
    assert isinstance(stopped, KeyboardInterrupt)
    assert f'This run has saved no checkpoint yet in {tmp_path}/run.' in str(stopped)
    newest = {'default_hooks.checkpoint.interval': 3}
    assert f'The newest checkpoint is {tmp_path}/run/iter_3.pth' in str(preempted(signal.SIGINT, **newest))
    # The next run has saved nothing, and must not name what the one before has saved.
    stopped = preempted(signal.SIGINT)
    assert str(stopped) == f'This run has saved no checkpoint yet in {tmp_path}/run.'
    resumed = {'load_from': str(tmp_path / 'run/iter_3.pth'), 'resume': True}
    assert f'It was resumed from {tmp_path}/run/iter_3.pth; continue' in str(preempted(signal.SIGINT, **resumed))


def test_handlers_are_given_back(tiny_runner):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)]
    tiny_runner(**{'train_cfg.max_epochs': 1}).train()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)] == before


@pytest.fixture(scope='module')
def signalled(tmp_path_factory):
    """Runs that get a signal."""

    def options(workers, more='', **sent):
        hook = {'type': 'SignalAt', 'number': int(signal.SIGTERM), 'at': 6, **sent}
        return (
            f"train_dataloader = dict(batch_size=1, num_workers={workers}, dataset=dict(type='TinyPairs'),\n"
            f"    sampler=dict(type='DefaultSampler', shuffle=True))\n"
            f'custom_hooks = [{hook}]\n'
            f'default_hooks = dict(checkpoint=dict(interval=100))\n{more}'
        )

    accumulate = 'optim_wrapper = dict(accumulative_counts=4)'
    validate = (
        "val_dataloader = dict(batch_size=1, num_workers=1, dataset=dict(type='TinyPairs', size=9),\n"
        "    sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='mmmaskclip.tiny_collate'))\n"
        "val_evaluator = dict(type='TinyMetric')\nval_cfg = dict(type='{loop}')\n"
        'train_cfg = dict(val_interval_iters=6)'
    )
    mmengine_loop = (
        "train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=12)\n"
        "default_hooks = dict(runtime_info=dict(type='RuntimeInfoHook'), checkpoint=dict(interval=100))\n"
        "log_processor = dict(_delete_=True, type='LogProcessor', by_epoch=False)"
    )
    return train_together(
        tmp_path_factory.mktemp('runs'),
        one_rank=(options(1, rank=1), 2),
        group=(options(2, accumulate, rank=1, group=True), 2),
        our_val=(options(1, validate.format(loop='EvaluationLoop'), group=True, in_val=True), 1),
        mmengines_val=(options(1, validate.format(loop='ValLoop'), group=True, in_val=True), 1),
        mmengines_loop=(options(2, mmengine_loop, group=True), 1),
    )


@pytest.mark.parametrize(
    ('run', 'saved'),
    [
        # To one rank, and to all ranks with their workers, as Slurm and Kubernetes send it.
        ('one_rank', 'iter_7.pth'),
        ('group', 'iter_8.pth'),
        # With a worker of a validation, too, and in a validation that is not interrupted.
        ('our_val', 'iter_7.pth'),
        ('mmengines_val', 'iter_7.pth'),
        ('mmengines_loop', 'iter_7.pth'),
    ],
)
def test_a_signal_saves_and_ends_all_ranks(signalled, run, saved):
    folder, codes, errors = signalled[run]
    assert set(codes) == {75}, errors
    assert [path.name for path in folder.glob('*.pth')] == [saved]
