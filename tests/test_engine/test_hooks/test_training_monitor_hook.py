import json
from pathlib import Path

import pytest
import torch


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
