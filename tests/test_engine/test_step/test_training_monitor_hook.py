import json
import types
from pathlib import Path

import pytest
import torch
from ranks import fork_ranks

from mmmaskclip.engine import TrainingMonitorHook


def scalars(runner):
    """What the run of this runner logged."""
    path = Path(runner.work_dir, runner.timestamp, 'vis_data/scalars.json')
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scalars_are_means_over_the_interval(tiny_runner):
    runner = tiny_runner()
    values = {'loss': [], 'grad_norm': []}
    train_step = runner.model.train_step

    def record(data, optim_wrapper):
        outputs = train_step(data, optim_wrapper)
        values['loss'].append(outputs['loss'].item())
        values['grad_norm'].append(optim_wrapper.grad_norm.item())
        return outputs

    runner.model.train_step = record
    runner.train()
    logged = scalars(runner)
    assert [line['step'] for line in logged] == [4, 8, 12, 16]
    for name in values:
        means = torch.tensor(values[name]).view(4, 4).mean(1).tolist()
        assert [line[name] for line in logged] == pytest.approx(means, rel=1e-5)


def test_line_has_everything_a_reader_asks_for(tiny_runner):
    runner = tiny_runner()
    runner.train()
    line = scalars(runner)[-1]
    assert {'loss', 'square_loss', 'batch_mean', 'grad_norm', 'lr', 'epoch', 'iter', 'images_per_second'} <= set(line)
    assert line['temperature'] == pytest.approx(0.07)
    assert line['teacher_momentum'] == pytest.approx(0.99912)
    assert 0 <= line['data_share'] <= 1
    assert line['memory'] > 50
    assert line['skipped'] == 2  # one bad sample in each epoch
    assert line['images_per_second'] == pytest.approx(2 / line['step_time'])
    assert not {'time', 'data_time'} & set(line)


def test_nothing_is_read_from_the_device_between_intervals(tiny_runner):
    runner = tiny_runner()
    reads = []

    class Watched(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if func in (torch.Tensor.item, torch.Tensor.tolist, torch.Tensor.__float__, torch.Tensor.cpu):
                reads.append(runner.iter)
            return super().__torch_function__(func, types, args, kwargs or {})

    train_step = runner.model.train_step
    runner.model.train_step = lambda data, optim_wrapper: {
        name: value.detach().as_subclass(Watched) for name, value in train_step(data, optim_wrapper).items()
    }
    runner.train()
    assert set(reads) <= {3, 7, 11, 15}
    assert reads


def test_short_rest_of_an_epoch_is_its_own_interval(tiny_runner):
    runner = tiny_runner(**{'default_hooks.logger.interval': 5})
    runner.train()
    assert [line['step'] for line in scalars(runner)] == [5, 8, 13, 16]


def test_skipped_samples_are_counted_on_after_a_resume(tiny_runner, tmp_path):
    tiny_runner(**{'default_hooks.checkpoint.interval': 8}).train()
    runner = tiny_runner(load_from=str(tmp_path / 'run/iter_8.pth'), resume=True)
    runner.train()
    assert scalars(runner)[-1]['skipped'] == 2


def test_grad_norm_is_left_out_until_the_first_step(tiny_runner):
    runner = tiny_runner(**{'optim_wrapper.accumulative_counts': 8})
    runner.train()
    logged = scalars(runner)
    assert 'grad_norm' not in logged[0]
    assert logged[1]['grad_norm'] > 0


def test_nothing_on_the_host_grows_with_the_iterations(tiny_runner):
    # An interval longer than the epoch, so that each epoch is one.
    runner = tiny_runner(**{'default_hooks.logger.interval': 100})
    runner.train()
    lengths = {name: len(buffer.data[0]) for name, buffer in runner.message_hub.log_scalars.items()}
    assert {'train/lr', 'train/loss', 'train/step_time'} <= set(lengths)
    assert set(lengths.values()) == {2}


def test_histories_of_mmengines_hooks_are_bounded_when_a_checkpoint_is_saved(tiny_runner, monkeypatch):
    monkeypatch.setattr('mmmaskclip.engine.runner._HISTORY', 4)
    hooks = dict(type='RuntimeInfoHook', _delete_=True)
    runner = tiny_runner(
        **{
            'default_hooks.runtime_info': hooks,
            'log_processor': dict(_delete_=True, type='LogProcessor'),
            'default_hooks.checkpoint.interval': 5,
        }
    )
    runner.train()
    assert len(runner.message_hub.get_scalar('train/lr').data[0]) == 4


def _flush_of_one_rank(rank):
    hook, logged = TrainingMonitorHook(), {}
    hook._model = types.SimpleNamespace(
        set_progress=lambda _: None,
        after_optimizer_step=lambda: None,
        logged=lambda: {'temperature': 0.07},
        parameters=lambda: iter([torch.ones(1)]),
    )
    hook._skipped = 10
    hook._reset()
    hook._values['loss'] = [torch.tensor(1.0 + rank), torch.tensor(3.0 + rank)]
    hook._iterations, hook._images, hook._new_skipped = 2, 8, rank + 1
    # One value is finite on one rank only.
    hook._values['grad_norm'] = [torch.tensor(4.0 if rank else float('nan'))]
    hook._flush(
        types.SimpleNamespace(
            message_hub=types.SimpleNamespace(update_scalar=logged.__setitem__),
            optim_wrapper=types.SimpleNamespace(steps_skipped=5, get_lr=lambda: {'lr': [0.5]}),
        )
    )
    return {name: value for name, value in logged.items() if name != 'train/memory'}


def test_ranks_log_their_common_mean_and_their_summed_counts(tmp_path):
    logged = fork_ranks(_flush_of_one_rank, tmp_path)
    assert logged[0] == logged[1]
    assert logged[0]['train/loss'] == pytest.approx(2.5)
    assert logged[0]['train/temperature'] == pytest.approx(0.07)
    assert logged[0]['train/grad_norm'] == pytest.approx(4.0)
    assert logged[0]['train/skipped'] == 13
    assert logged[0]['train/skipped_steps'] == 5
    assert logged[0]['train/images_per_second'] * logged[0]['train/step_time'] == pytest.approx(8)  # images per step
