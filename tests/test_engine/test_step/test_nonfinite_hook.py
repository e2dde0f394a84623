"""A step that is not finite must leave the run as if its batches had never been there."""

import json
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from mmmaskclip.engine import ModelStepHook, NonFiniteHook, PretrainOptimWrapper
from mmmaskclip.engine.step import optim_wrapper as pretrain_optim_wrapper
from mmmaskclip.registry import DATASETS

NAN = float('nan')
CASES = [(False, 'fp32'), (True, 'fp32'), (False, 'fp16'), (True, 'fp16')]


@pytest.fixture(params=['at once', 'a step later'])
def host_learns(request, monkeypatch):
    """When the host learns that a step was skipped; the second is the way of fused optimizers on a GPU."""
    if request.param == 'a step later':
        monkeypatch.setattr(pretrain_optim_wrapper, '_can_skip_on_device', lambda optimizer: True)
    return request.param


@DATASETS.register_module(force=True)
class RandomPairs(Dataset):
    """Twelve random pairs with the views that SimCLR needs."""

    metainfo: dict = {}

    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        names = ('image', 'augmented_1', 'augmented_2')
        images = {name: torch.randint(0, 256, (3, 32, 32), generator=generator, dtype=torch.uint8) for name in names}
        tokens = torch.cat([torch.randint(1, 98, (6,), generator=generator), torch.tensor([99])])
        return {**images, 'tokens': tokens.int(), 'seed': torch.tensor(index), 'key': f'pair{index}'}


def pretrainer_options(tiny_model_cfg, distillation_cfg):
    """Options that turn tests/tiny/tiny.py into MaskCLIP with codewords, SimCLR and a batch norm; six iterations."""
    head = dict(type='mmpretrain.NonLinearNeck', in_channels=32, hid_channels=16, out_channels=8, with_avg_pool=False)
    objectives = dict(
        contrast=dict(type='ImageTextContrast'),
        distillation=distillation_cfg('cvpr'),
        simclr=dict(type='ImageContrast', head=head),
    )
    return {
        'model': dict(_delete_=True, **tiny_model_cfg(objectives), teacher_momentum=dict(begin=0.5, end=0.9)),
        'train_dataloader': dict(
            dataset=dict(type='RandomPairs'),
            sampler=dict(type='ResumableSampler', shuffle=True),
            collate_fn=dict(_delete_=True, type='default_collate'),
        ),
        'train_cfg.max_epochs': 1,
    }


def poison(runner, what, bad):
    """Spoil the iterations ``bad``; returns the list of all batches, which training fills."""
    model, batches, numbers = runner.model, [], count()
    train_step, forward = model.train_step, model.forward
    parameter = next(parameter for parameter in model.parameters() if parameter.requires_grad)
    parameter.register_hook(lambda grad: grad * NAN if what == 'gradient' and len(batches) - 1 in bad else grad)

    def numbered(data, optim_wrapper):
        batches.append(data)
        return train_step(data, optim_wrapper)

    def spoiled(**batch):
        is_bad = next(numbers) in bad
        if is_bad and what == 'data':
            batch['image'] = batch['image'] * NAN
        losses = forward(**batch)
        if is_bad and what == 'term':
            name = next(name for name in losses if 'loss' in name)
            losses[name] = losses[name] * NAN
        if is_bad and what == 'term without gradient':
            losses['other_loss'] = torch.tensor(NAN)
        return losses

    model.train_step, model.forward = numbered, spoiled
    return batches


def train_without(runner, batches, bad, accumulative_counts=1):
    """Train a fresh runner's model by hand on the groups of batches that have none of the iterations ``bad``."""
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.optim_wrapper = wrapper
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    model = runner.model
    torch.manual_seed(0)
    model.init_weights()
    model.train()
    for start in range(0, len(batches), accumulative_counts):
        group = range(start, start + accumulative_counts)
        if bad & set(group):
            continue
        for index in group:
            model.set_progress(wrapper.steps_taken / (len(batches) // accumulative_counts))
            model.train_step(batches[index], wrapper)
            if index == group[-1]:
                model.after_optimizer_step()
            for scheduler in schedulers:
                scheduler.step()
    return wrapper, schedulers


def assert_same(runner, reference, reference_schedulers):
    """Bit for bit: model with teacher, centre and batch norm, optimizer, schedules, counter of steps."""
    for name, value in reference.model.state_dict().items():
        assert torch.equal(runner.model.state_dict()[name], value), name
    state, expected = runner.optim_wrapper.state_dict(), reference.optim_wrapper.state_dict()
    assert state['steps_taken'] == expected['steps_taken']
    assert state['param_groups'] == expected['param_groups']
    for index, values in expected['state'].items():
        assert all(torch.equal(state['state'][index][name], value) for name, value in values.items())
    for scheduler, other in zip(runner.param_schedulers, reference_schedulers, strict=True):
        assert (scheduler.last_step, scheduler._last_value) == (other.last_step, other._last_value)


@pytest.mark.parametrize('what', ['data', 'term', 'term without gradient', 'gradient'])
def test_a_skipped_step_leaves_no_trace(tiny_runner, host_learns, what):
    bad = {0, 5, 6, 15}
    runner, reference = tiny_runner(), tiny_runner()
    batches = poison(runner, what, bad)
    runner.train()
    _, schedulers = train_without(reference, batches, bad)
    assert_same(runner, reference, schedulers)
    assert runner.optim_wrapper.steps_skipped == 4
    assert runner.model.logit_scale != 0


def test_neither_teacher_nor_centre_nor_batch_norm_see_it(tiny_runner, host_learns, tiny_model_cfg, distillation_cfg):
    options = pretrainer_options(tiny_model_cfg, distillation_cfg)
    runner, reference = tiny_runner(**options), tiny_runner(**options)
    batches = poison(runner, 'data', {1, 2, 4})
    torch.manual_seed(0)
    runner.train()
    _, schedulers = train_without(reference, batches, {1, 2, 4})
    assert_same(runner, reference, schedulers)
    state = runner.model.state_dict()
    assert state['objectives.distillation.loss.center'].any()
    assert 3 in [value.item() for name, value in state.items() if name.endswith('num_batches_tracked')]


def test_the_whole_accumulation_is_skipped(tiny_runner, host_learns):
    # No checkpoint in between, so that the schedules have moved on when the host learns late.
    options = {'optim_wrapper.accumulative_counts': 4, 'default_hooks.checkpoint.interval': 16}
    runner, reference = tiny_runner(**options), tiny_runner(**options)
    batches = poison(runner, 'data', {1})
    runner.train()
    _, schedulers = train_without(reference, batches, {1}, accumulative_counts=4)
    assert_same(runner, reference, schedulers)
    assert runner.optim_wrapper.steps_skipped == 1
    lines = [json.loads(line) for line in (Path(runner.work_dir) / 'nonfinite.jsonl').read_text().splitlines()]
    assert [line['iteration'] for line in lines] == [1, 2, 3, 4]
    assert [bool(line['not_finite']) for line in lines] == [False, True, False, False]


def test_progress_stays(tiny_runner):
    runner = tiny_runner()
    poison(runner, 'data', {1})
    model = runner.train()
    assert model.progress[:4] == pytest.approx([0, 1 / 16, 1 / 16, 2 / 16])
    assert model.steps == 15


def test_when_the_host_learns_late_the_momentum_is_right_all_the_same(tiny_runner, monkeypatch):
    monkeypatch.setattr(pretrain_optim_wrapper, '_can_skip_on_device', lambda optimizer: True)
    runner = tiny_runner()
    poison(runner, 'data', {1})
    model = runner.train()
    # The third forward pass is a step ahead, but is put right before the teacher follows.
    assert model.progress[:5] == pytest.approx([0, 1 / 16, 2 / 16, 1 / 16, 2 / 16])


def test_a_checkpoint_right_after_a_skipped_step_knows(tiny_runner, host_learns, tmp_path):
    runner, reference = tiny_runner(), tiny_runner()
    batches = poison(runner, 'gradient', {4})
    runner.train()
    saved = torch.load(tmp_path / 'run/iter_5.pth', weights_only=False)
    _, schedulers = train_without(reference, batches[:4], set())
    assert saved['optimizer']['steps_taken'] == 4
    assert saved['optimizer']['steps_skipped'] == 1
    assert saved['optimizer']['param_groups'] == reference.optim_wrapper.state_dict()['param_groups']
    assert [state['last_step'] for state in saved['param_schedulers']] == [s.last_step for s in schedulers]
    resumed = tiny_runner(load_from=str(tmp_path / 'run/iter_5.pth'), resume=True)
    resumed.train()
    assert_same(resumed, runner, runner.param_schedulers)


def test_a_schedule_by_epochs_moves_although_the_last_step_of_the_epoch_is_skipped(tiny_runner, host_learns):
    schedule = dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=0.5)
    # No checkpoint in between, for which the host would have to know.
    runner = tiny_runner(**{'param_scheduler': [schedule], 'default_hooks.checkpoint.interval': 16})
    poison(runner, 'data', {7})
    runner.train()
    assert runner.optim_wrapper.steps_skipped == 1
    assert {group['lr'] for group in runner.optim_wrapper.param_groups} == {0.005}


def test_file_and_log_name_terms_and_samples(tiny_runner, host_learns):
    runner = tiny_runner()
    batches = poison(runner, 'term', {2})
    runner.train()
    [line] = (Path(runner.work_dir) / 'nonfinite.jsonl').read_text().splitlines()
    line = json.loads(line, parse_constant=pytest.fail)  # no bare NaN, which is not JSON
    assert line['iteration'] == 3
    assert line['rank'] == 0
    assert line['not_finite'] == ['loss', 'square_loss']
    assert line['losses']['square_loss'] == 'nan'
    assert isinstance(line['losses']['batch_mean'], float)
    assert line['grad_norm'] == 'nan'
    assert line['samples'] == batches[2]['key']
    log = next(Path(runner.work_dir).glob('*/*.log')).read_text()
    keys = ', '.join(batches[2]['key'])
    assert f'Optimizer step of iteration 3 skipped: not finite: loss, square_loss of rank 0; samples {keys}.' in log


def test_too_many_in_a_row_stop_the_run(tiny_runner, host_learns):
    hooks = [dict(type='ModelStepHook'), dict(type='NonFiniteHook', max_in_a_row=3)]
    runner = tiny_runner(custom_hooks=hooks)
    batches = poison(runner, 'gradient', {1, 2, 4, 5, 6})
    with pytest.raises(RuntimeError) as error:
        runner.train()
    keys = ', '.join(batches[6]['key'])
    assert '3 optimizer steps in a row had to be skipped, the last in iteration 7' in str(error.value)
    assert f'not finite: the gradient (all losses are finite) of rank 0; samples {keys}.' in str(error.value)
    assert len((Path(runner.work_dir) / 'nonfinite.jsonl').read_text().splitlines()) == 5


def test_the_search_of_the_loss_scale_is_not_reported_but_a_loss_is(tiny_runner, host_learns):
    runner = tiny_runner(**{'optim_wrapper.precision': 'fp16'})
    poison(runner, 'gradient', {1, 2})
    model = runner.train()
    assert model.steps >= 14
    assert runner.optim_wrapper.steps_skipped == 2
    assert runner.optim_wrapper.scaler.get_scale() == 2.0**14
    assert not (Path(runner.work_dir) / 'nonfinite.jsonl').exists()

    runner = tiny_runner(**{'optim_wrapper.precision': 'fp16'})
    poison(runner, 'term without gradient', {1})
    runner.train()
    assert runner.optim_wrapper.steps_taken == 15
    assert len((Path(runner.work_dir) / 'nonfinite.jsonl').read_text().splitlines()) == 1


def test_gradients_that_no_scale_can_make_finite_stop_a_float16_run(tiny_runner):
    runner = tiny_runner(**{'optim_wrapper.precision': 'fp16', 'train_cfg.max_epochs': 4})
    poison(runner, 'gradient', set(range(32)))
    with pytest.raises(RuntimeError, match='10 optimizer steps in a row .* the last in iteration 25'):
        runner.train()


def test_other_optimizer_wrappers_are_refused():
    with pytest.raises(TypeError, match='optim_wrapper.type is SimpleNamespace'):
        NonFiniteHook().before_train(SimpleNamespace(optim_wrapper=SimpleNamespace()))


def test_samples_of_the_toolboxes_have_names_too():
    from mmengine.structures import BaseDataElement

    from mmmaskclip.engine.step.nonfinite_hook import _sample_names

    samples = [BaseDataElement(metainfo={'img_path': 'a.jpg'}), BaseDataElement(metainfo={'img_id': 7})]
    assert _sample_names({'inputs': [], 'data_samples': samples}) == ['a.jpg', '7']


def _train_as_one_rank(work_dir, deferred, precision):
    """Six steps; rank 1 has a NaN loss without gradient in step 1 and, after the all-reduce, a NaN gradient in 3."""
    rank = dist.get_rank()
    torch.manual_seed(0)
    pretrain_optim_wrapper._can_skip_on_device = lambda optimizer: deferred
    layer = torch.nn.Linear(4, 4)
    layer.set_progress, layer.after_optimizer_step = lambda progress: None, lambda: None
    model = DistributedDataParallel(layer)
    wrapper = PretrainOptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.1, fused=True), precision=precision)
    warnings = []
    runner = SimpleNamespace(
        model=model,
        optim_wrapper=wrapper,
        param_schedulers=[],
        max_iters=6,
        work_dir=work_dir,
        logger=SimpleNamespace(warning=warnings.append),
        train_dataloader=range(6),
    )
    hooks = [ModelStepHook(), NonFiniteHook()]
    for hook in hooks:
        hook.before_train(runner)
    for runner.iter in range(6):
        batch = {'key': [f'{runner.iter}/{rank}']}
        for hook in hooks:
            hook.before_train_iter(runner, runner.iter, batch)
        image = torch.randn(2, 4, generator=torch.Generator().manual_seed(10 * runner.iter + rank))
        with wrapper.optim_context(model):
            loss = model(image).float().square().mean()
        bad = torch.tensor(NAN if (runner.iter, rank) == (1, 1) else 0.0)
        wrapper.backward(loss + bad)
        if (runner.iter, rank) == (3, 1):
            layer.bias.grad[0] = NAN
        wrapper.step()
        wrapper.zero_grad()
        for hook in hooks:
            hook.after_train_iter(runner, runner.iter, batch, {'loss': (loss + bad).detach()})
    for hook in hooks:
        hook.after_train(runner)
    scale = wrapper.scaler.get_scale() if wrapper.scaler else None
    parameters = [parameter.tolist() for parameter in layer.parameters()]
    Path(work_dir, f'{rank}.json').write_text(json.dumps([parameters, wrapper.steps_taken, scale, warnings]))


def _train_as_one_of_two(folder):
    dist.init_process_group('gloo')
    for deferred, precision in CASES:
        case = folder / f'{deferred}-{precision}'
        case.mkdir(exist_ok=True)
        _train_as_one_rank(str(case), deferred, precision)


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    """Folder with a folder per case, in which two processes have trained."""
    folder = tmp_path_factory.mktemp('two_processes')
    run_ranks(_train_as_one_of_two, folder)
    return folder


@pytest.mark.parametrize(('deferred', 'precision'), CASES)
def test_ranks_skip_together(two_processes, deferred, precision):
    folder = two_processes / f'{deferred}-{precision}'
    results = [json.loads((folder / f'{rank}.json').read_text()) for rank in range(2)]
    assert results[0] == results[1]
    parameters, steps_taken, scale, warnings = results[0]
    assert steps_taken == 4
    assert all(torch.tensor(parameter).isfinite().all() for parameter in parameters)
    lines = [json.loads(line) for line in (folder / 'nonfinite.jsonl').read_text().splitlines()]
    found = [(line['iteration'], line['rank'], line['samples'], line['not_finite']) for line in lines]
    assert found[:2] == [(2, 0, ['1/0'], []), (2, 1, ['1/1'], ['loss'])]
    assert warnings[0].startswith('Optimizer step of iteration 2 skipped: not finite: loss of rank 1; samples 1/1.')
    if precision == 'fp16':
        assert scale == 2.0**14
        return
    assert found[2:] == [(4, 0, ['3/0'], []), (4, 1, ['3/1'], [])]
    assert [isinstance(line['grad_norm'], str) for line in lines] == [False, False, False, True]
    assert 'the gradient (all losses are finite) of rank 1; samples 3/1.' in warnings[1]

    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, fused=True)
    for step in (0, 2, 4, 5):
        seeds = (10 * step, 10 * step + 1)
        images = torch.cat([torch.randn(2, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        layer(images).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    for parameter, expected in zip(parameters, layer.parameters(), strict=True):
        torch.testing.assert_close(torch.tensor(parameter), expected.detach(), rtol=1e-4, atol=1e-5)
