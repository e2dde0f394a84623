import pytest
import tiny_models
import torch

from mmmaskclip.engine.step import ModelStepHook
from mmmaskclip.registry import MODELS


def test_progress_is_the_share_of_optimizer_steps_taken(tiny_runner):
    model = tiny_runner().train()
    assert model.progress == pytest.approx([step / 16 for step in range(16)])
    assert model.steps == 16


def test_one_step_per_accumulation_and_the_rest_at_the_end(tiny_runner):
    model = tiny_runner(**{'optim_wrapper.accumulative_counts': 3}).train()
    assert model.steps == 6  # five groups of three iterations and the sixteenth
    assert model.progress == pytest.approx([step // 3 / 6 for step in range(16)])


def test_a_skipped_step_moves_neither_progress_nor_teacher(tiny_runner):
    runner = tiny_runner(**{'optim_wrapper.precision': 'fp16'})
    forward, calls = runner.model.forward, []

    def overflow_in_the_second(**batch):
        calls.append(None)
        losses = forward(**batch)
        return {name: value * float('inf') for name, value in losses.items()} if len(calls) == 2 else losses

    runner.model.forward = overflow_in_the_second
    model = runner.train()
    assert model.steps == runner.optim_wrapper.steps_taken == 15
    assert model.progress[:4] == pytest.approx([0, 1 / 16, 1 / 16, 2 / 16])


def test_a_resumed_run_does_not_repeat_a_step(tiny_runner, tmp_path):
    tiny_runner().train()
    model = tiny_runner(load_from=str(tmp_path / 'run/iter_10.pth'), resume=True).train()
    assert model.steps == 6
    assert model.progress[0] == pytest.approx(10 / 16)


@pytest.mark.parametrize('momentum', [1.0, 0.9])
def test_a_teacher_that_never_moves_is_the_model_that_the_run_starts_from(tiny_runner, tmp_path, momentum):
    config = tiny_models.model(dict(tuned=dict(type='PreserveGlobal'))) | dict(teacher_momentum=momentum)
    checkpoint = tiny_models.move_teachers(MODELS.build(config))
    torch.save({'state_dict': checkpoint.state_dict(), 'meta': {}}, tmp_path / 'start.pth')
    runner = tiny_runner(model=dict(_delete_=True, **config))
    runner.load_checkpoint(str(tmp_path / 'start.pth'))
    student, teacher = runner.model.image_encoder.state_dict(), runner.model.teacher.module.state_dict()
    assert all(torch.equal(value, checkpoint.image_encoder.state_dict()[name]) for name, value in student.items())
    expected = student if momentum == 1 else checkpoint.teacher.module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in teacher.items())
    # A resumed run goes on with its own.
    runner._resuming, resumed = True, {'state_dict': checkpoint.state_dict()}
    ModelStepHook().after_load_checkpoint(runner, resumed)
    assert resumed['state_dict'].keys() == checkpoint.state_dict().keys()
