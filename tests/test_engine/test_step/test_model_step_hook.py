import pytest


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
