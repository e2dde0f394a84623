import errno
import json
import os
import threading
import time

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from options import VALIDATION

from mmmaskclip.checkpoints.files import newest_verified, verify_checkpoint
from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.engine.hooks import checkpoint_hook
from mmmaskclip.engine.hooks.checkpoint_hook import ReliableCheckpointHook, save_now

KEY = 'default_hooks.checkpoint.'
write = checkpoint_hook.write_checkpoint


@pytest.fixture
def build(tiny_runner):
    """A function that builds a runner of sixteen iterations with options of its checkpoint hook."""

    def build(options=None, **hook):
        return tiny_runner(**{KEY + name: value for name, value in hook.items()}, **(options or {}))

    return build


def saved(tmp_path):
    return sorted(int(path.stem.split('_')[1]) for path in (tmp_path / 'run').glob('iter_*.pth'))


def saved_names(tmp_path):
    return sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))


def log(tmp_path):
    return ''.join(path.read_text() for path in (tmp_path / 'run').glob('*/*.log'))


def hook_of(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, ReliableCheckpointHook))


def fill_disk(monkeypatch, full):
    """Let writing fail when ``full(path)`` says so."""

    def writing(path, checkpoint):
        if full(os.path.basename(path)):
            raise OSError(errno.ENOSPC, 'No space left on device')
        write(path, checkpoint)

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', writing)


@pytest.mark.parametrize('asynchronous', [False, True])
def test_keeps_the_last_ones_and_every_kth(build, tmp_path, asynchronous):
    build(interval=2, max_keep_ckpts=2, keep_every=6, async_save=asynchronous).train()
    assert saved(tmp_path) == [6, 12, 14, 16]
    assert {path.name for path in (tmp_path / 'run').glob('*.sha256')} == {
        f'iter_{step}.pth.sha256' for step in saved(tmp_path)
    }
    assert (tmp_path / 'run/last_checkpoint').read_text().endswith('/iter_16.pth')


@pytest.mark.parametrize('asynchronous', [False, True])
def test_old_checkpoint_is_removed_after_the_new_one_is_written(build, tmp_path, monkeypatch, asynchronous):
    there = []

    def writing(path, checkpoint):
        there.append(saved(tmp_path))
        write(path, checkpoint)

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', writing)
    build(interval=4, max_keep_ckpts=1, async_save=asynchronous).train()
    assert there == [[], [4], [8], [12]]
    assert saved(tmp_path) == [16]


def test_resumed_run_removes_what_the_killed_one_could_not(build, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_hook, 'remove_checkpoint', lambda path: None)
    build(interval=4, max_keep_ckpts=1).train()
    assert saved(tmp_path) == [4, 8, 12, 16]
    monkeypatch.undo()
    build({'load_from': str(tmp_path / 'run/iter_8.pth'), 'resume': True}, interval=4, max_keep_ckpts=1).train()
    assert saved(tmp_path) == [16]


def test_saves_by_the_clock(build, tmp_path, monkeypatch):
    runner = build(interval=-1, save_last=False, interval_minutes=30, max_keep_ckpts=9)
    # Twelve minutes an iteration.
    monkeypatch.setattr(time, 'monotonic', lambda: 720.0 * runner.iter)
    runner.train()
    assert saved(tmp_path) == [4, 7, 10, 13, 16]
    with pytest.raises(ValueError, match=r'interval_minutes=5 with by_epoch=True.*Set by_epoch=False'):
        ReliableCheckpointHook(interval=1, interval_minutes=5)


def test_checkpoint_due_inside_an_accumulation_is_saved_at_its_end(build, tmp_path):
    build({'optim_wrapper.accumulative_counts': 3}, interval=4, max_keep_ckpts=9).train()
    assert saved(tmp_path) == [6, 9, 12, 16]


def test_full_disk_is_told_and_tried_again_while_training_goes_on(build, tmp_path, monkeypatch):
    attempts = []

    def full(name):
        attempts.append(name)
        return len(attempts) in (2, 3)

    fill_disk(monkeypatch, full)
    runner = build(interval=5, max_keep_ckpts=1, retry_interval=2, save_last=False)
    removed = []
    monkeypatch.setattr(checkpoint_hook, 'remove_checkpoint', lambda path: removed.append((path[-6:], len(attempts))))
    runner.train()
    assert attempts == ['iter_5.pth', 'iter_10.pth', 'iter_12.pth', 'iter_14.pth', 'iter_15.pth']
    # The only whole one was kept until there was another.
    assert removed == [('_5.pth', 4), ('14.pth', 5)]
    assert verify_checkpoint(tmp_path / 'run/iter_5.pth') is None
    told = [line for line in log(tmp_path).splitlines() if 'The checkpoint could not be saved' in line]
    assert len(told) == 2
    assert all('ERROR' in line and 'No space left on device' in line and 'in 2 iterations' in line for line in told)
    assert runner.iter == 16


class FullDisk(Hook):
    """From iteration 9 to 13 all that a run writes into its folder goes where the system says that the disk is full."""

    priority = 'VERY_HIGH'

    def __init__(self, folder):
        self.folder, self.links = folder, []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 8:
            self.links = [*self.folder.glob('*/vis_data/*.json'), self.folder / '.iter_10.pth.tmp']
            for link in self.links:
                link.unlink(missing_ok=True)
                link.symlink_to('/dev/full')
        if runner.iter == 13:
            for link in self.links:
                link.unlink(missing_ok=True)


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no device that is always full')
def test_training_goes_on_while_the_disk_is_full_according_to_the_system(build, tmp_path):
    runner = build(interval=5, max_keep_ckpts=1, retry_interval=2)
    runner.register_hook(FullDisk(tmp_path / 'run'))
    runner.train()
    told = [line for line in log(tmp_path).splitlines() if 'No space left on device' in line]
    assert sorted(line.split(' - ')[-1][:9] for line in told) == ['The check', 'The files']
    assert all('ERROR' in line and 'ree some space' in line for line in told)
    steps = [json.loads(line)['step'] for line in next((tmp_path / 'run').glob('*/vis_data/scalars.json')).open()]
    assert steps[-1] == 16
    assert newest_verified(tmp_path / 'run') == (str(tmp_path / 'run/iter_16.pth'), [])


@pytest.mark.parametrize('name', ['add_scalars', 'close'])
def test_writers_of_the_log_may_fail_for_a_full_disk_only(build, monkeypatch, name):
    runner, numbers = build(), [errno.ENOSPC, errno.EACCES]

    def fail(*args, **kwargs):
        raise OSError(numbers.pop(0), 'it fails')

    for backend in runner.visualizer._vis_backends.values():
        monkeypatch.setattr(type(backend), name, fail)
    arguments = [{'loss': 1.0}] if name == 'add_scalars' else []
    getattr(runner.visualizer, name)(*arguments)
    with pytest.raises(PermissionError):
        getattr(runner.visualizer, name)(*arguments)


def test_checkpoint_that_was_to_be_removed_and_is_written_anew_stays(build, tmp_path):
    runner = build(interval=15, max_keep_ckpts=1, save_last=False)
    # As of a run resumed with a larger batch, whose iterations count from less.
    runner.message_hub.update_info('outdated_ckpts', ['iter_15.pth'])
    runner.train()
    assert saved(tmp_path) == [15]


def test_disk_that_stays_full_is_an_error_at_the_end(build, tmp_path, monkeypatch):
    fill_disk(monkeypatch, lambda name: name != 'iter_5.pth')
    with pytest.raises(OSError, match='No space left'):
        build(interval=5).train()
    assert newest_verified(tmp_path / 'run')[0] == str(tmp_path / 'run/iter_5.pth')


def test_other_errors_are_not_taken_for_a_full_disk(build, monkeypatch):
    def denied(path, checkpoint):
        raise PermissionError(errno.EACCES, 'Permission denied')

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', denied)
    runner = build(interval=5)
    with pytest.raises(PermissionError):
        runner.train()
    assert runner.iter == 4


def contents(path):
    checkpoint = read_checkpoint(path)
    return {name: checkpoint[name] for name in ('state_dict', 'optimizer')}


def test_asynchronous_save_lets_training_go_on_and_saves_the_state_of_its_iteration(build, tmp_path, monkeypatch):
    build(interval=5).train()
    expected = contents(tmp_path / 'run/iter_5.pth')
    (tmp_path / 'run/iter_5.pth').unlink()
    runner, go_on, iterations = build(interval=5, save_last=False, async_save=True), threading.Event(), []

    def waiting(path, checkpoint):
        if path.endswith('iter_5.pth'):
            assert go_on.wait(60)
            iterations.append(runner.iter)
        write(path, checkpoint)

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', waiting)
    step = runner.call_hook

    def call_hook(name, **kwargs):
        step(name, **kwargs)
        if name == 'after_train_iter' and runner.iter == 7:
            go_on.set()

    runner.call_hook = call_hook
    runner.train()
    assert iterations[0] >= 7  # it was still being written while iterations 6 to 8 were done
    torch.testing.assert_close(contents(tmp_path / 'run/iter_5.pth'), expected, rtol=0, atol=0)


def test_full_disk_of_the_thread_is_told_and_the_last_checkpoint_written_again(build, tmp_path, monkeypatch):
    failed = []

    def full(name):
        failed.append(name)
        return failed.count(name) == 1 and name in ('iter_10.pth', 'iter_16.pth')

    fill_disk(monkeypatch, full)
    build(interval=5, max_keep_ckpts=2, async_save=True).train()
    assert saved(tmp_path) == [15, 16]
    assert log(tmp_path).count('The checkpoint could not be saved') == 2


def test_error_of_the_thread_is_raised_by_the_next_save(build, monkeypatch):
    def broken(path, checkpoint):
        raise RuntimeError('broken writer')

    monkeypatch.setattr(checkpoint_hook, 'write_checkpoint', broken)
    runner = build(interval=5, async_save=True)
    with pytest.raises(RuntimeError, match='broken writer'):
        runner.train()
    assert runner.iter == 9


VALIDATED = VALIDATION | {
    'train_cfg.val_interval_iters': 4,
    'train_cfg.val_begin': 99,
    'default_hooks.logger.log_metric_by_epoch': False,
}


@pytest.fixture
def better_each_time(monkeypatch):
    """Every validation is better than the one before."""
    scores = iter(range(1, 99))
    save_best = ReliableCheckpointHook._save_best_checkpoint
    monkeypatch.setattr(
        ReliableCheckpointHook,
        '_save_best_checkpoint',
        lambda self, runner, metrics: save_best(self, runner, {'tiny/sum': next(scores)}),
    )


def test_best_checkpoint_is_removed_after_the_better_one_is_written(build, tmp_path, better_each_time, monkeypatch):
    runner, there = build(VALIDATED, interval=-1, save_best='tiny/sum', rule='greater'), []
    save = runner.save_checkpoint

    def saving(out_dir, filename, *args, **kwargs):
        there.append([path.name for path in (tmp_path / 'run').glob('best*.pth')])
        save(out_dir, filename, *args, **kwargs)

    runner.save_checkpoint = saving
    runner.train()
    assert there[:3] == [[], ['best_tiny_sum_iter_4.pth'], ['best_tiny_sum_iter_8.pth']]
    assert sorted(path.name for path in (tmp_path / 'run').glob('best*')) == [
        'best_tiny_sum_iter_16.pth',
        'best_tiny_sum_iter_16.pth.sha256',
    ]


def test_best_checkpoint_remains_if_the_better_one_does_not_fit(build, tmp_path, better_each_time, monkeypatch):
    runner = build(VALIDATED, interval=4, max_keep_ckpts=9, save_best='tiny/sum', rule='greater')
    there = []
    save = runner.save_checkpoint

    def saving(out_dir, filename, *args, **kwargs):
        if filename == 'best_tiny_sum_iter_16.pth':
            there.extend(path.name for path in (tmp_path / 'run').glob('best*.pth'))
        if filename in ('best_tiny_sum_iter_8.pth', 'best_tiny_sum_iter_12.pth'):
            raise OSError(errno.ENOSPC, 'No space left on device')
        save(out_dir, filename, *args, **kwargs)

    runner.save_checkpoint = saving
    runner.train()
    hub = read_checkpoint(tmp_path / 'run/iter_12.pth')['message_hub']['runtime_info']
    assert hub['best_score'] == 1
    assert hub['best_ckpt'].endswith('best_tiny_sum_iter_4.pth')
    # Until there was space again.
    assert there == ['best_tiny_sum_iter_4.pth']
    assert [path.name for path in (tmp_path / 'run').glob('best*.pth')] == ['best_tiny_sum_iter_16.pth']


def test_save_now_gives_a_checkpoint_to_resume(build, tmp_path):
    runner, paths = build(interval=-1, save_last=False, async_save=True), []
    call_hook = runner.call_hook

    def saving(name, **kwargs):
        call_hook(name, **kwargs)
        if name == 'before_train_iter' and runner.iter == 7:
            paths.append(save_now(runner, 'SIGTERM'))
            assert paths[0] == str(tmp_path / 'run/iter_7.pth')

    runner.call_hook = saving
    runner.train()
    assert verify_checkpoint(paths[0]) is None
    assert 'SIGTERM: saving' in log(tmp_path)
    late = build({'load_from': paths[0], 'resume': True}, interval=-1, save_last=False)
    late.train()
    assert late.model.seen == runner.model.seen[14:]
    torch.testing.assert_close(late.model.state_dict(), runner.model.state_dict(), rtol=0, atol=0)


def test_checkpoint_saved_inside_an_epoch_is_removed_after_the_next(build, tmp_path):
    options = dict(by_epoch=True, interval=1, max_keep_ckpts=2)
    runner = build(**options)

    def stop(name, **kwargs):
        type(runner).call_hook(runner, name, **kwargs)
        if name == 'after_train_iter' and runner.iter == 5:
            runner.call_hook = lambda *_, **__: None
            save_now(runner, 'SIGTERM')
            raise SystemExit

    runner.call_hook = stop
    with pytest.raises(SystemExit):
        runner.train()
    (name,) = saved_names(tmp_path)
    assert name.startswith('iter_')
    # Killed before it is removed; the newest, which tells of it, is resumed.
    late = build({'load_from': str(tmp_path / 'run' / name), 'resume': True}, **options)
    late.train()
    assert saved_names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_best_score_and_its_checkpoint_outlive_the_process(build, tmp_path, monkeypatch):
    scores = iter([1, 5, 2, 3, 4, 6, 7])
    save_best = ReliableCheckpointHook._save_best_checkpoint
    monkeypatch.setattr(
        ReliableCheckpointHook,
        '_save_best_checkpoint',
        lambda self, runner, metrics: save_best(self, runner, {'tiny/sum': next(scores)}),
    )
    hook = dict(interval=4, save_best='tiny/sum', rule='greater', max_keep_ckpts=9)
    build(VALIDATED, **hook).train()
    assert [path.name for path in (tmp_path / 'run').glob('best*.pth')] == ['best_tiny_sum_iter_8.pth']
    build({**VALIDATED, 'load_from': str(tmp_path / 'run/iter_8.pth'), 'resume': True}, **hook).train()
    # 4 at iteration 12 is not better than 5 before, 6 at 16 is.
    assert [path.name for path in (tmp_path / 'run').glob('best*.pth')] == ['best_tiny_sum_iter_16.pth']


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        ({'kep_every': 3}, TypeError, 'has no kep_every'),
        ({'backend_args': {'backend': 'petrel'}}, ValueError, 'written to folders only'),
        ({'out_dir': 's3://bucket'}, ValueError, r'out_dir=.s3://bucket.*Mount the storage'),
        ({'published_keys': ['state_dict']}, ValueError, r'publish safetensors with tools/model_converters'),
    ],
)
def test_what_mmengines_hook_takes_and_this_one_does_not_do(options, error, message):
    with pytest.raises(error, match=message):
        ReliableCheckpointHook(interval=1, **options)


def test_another_runner_is_refused_by_name(build):
    runner = build(interval=5)
    with pytest.raises(TypeError, match='the runner is a Runner: build it with'):
        hook_of(runner)._save_checkpoint(object.__new__(Runner))
