"""Two gloo processes with batch B must equal one process with batch 2B: losses, every gradient, and the centre."""

from copy import deepcopy
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch.nn.parallel import DistributedDataParallel

from mmmaskclip.registry import MODELS

BATCH = 6


def _step(cfg, batch, wrap=lambda model: model):
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    model.init_weights()
    wrapped = wrap(model)
    losses = wrapped(mode='loss', **model.data_preprocessor(batch))
    sum(losses.values()).backward()
    model.after_optimizer_step()
    return dict(
        losses={name: value.detach() for name, value in losses.items()},
        grads={name: p.grad for name, p in model.named_parameters() if p.grad is not None},
        centers={name: value for name, value in model.named_buffers() if 'center' in name},
    )


def _run_as_one_of_two(folder: Path) -> None:
    dist.init_process_group('gloo')
    rank, results = dist.get_rank(), {}
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    for name, (cfg, batch) in torch.load(folder / 'cases.pt', weights_only=False).items():
        own = {key: value[half] for key, value in batch.items()}
        # Before its late start an objective uses none of its parameters.
        wrap = partial(DistributedDataParallel, find_unused_parameters=name == 'late start')
        results[name] = _step(cfg, own, wrap)
        for value in results[name]['losses'].values():
            dist.all_reduce(value)
            value /= 2
    if rank == 0:
        torch.save(results, folder / 'results.pt')


def _contrastive_cases(model) -> dict:
    head = dict(
        type='mmpretrain.NonLinearNeck',
        in_channels=32,
        hid_channels=32,
        out_channels=8,
        with_avg_pool=False,
        with_last_bn=False,
        norm_cfg=dict(type='LN'),  # SyncBN has no CPU kernel for several processes
    )
    return {
        'sigmoid': model(dict(contrast=dict(type='ImageTextContrast', loss=dict(type='SigmoidLoss', init_bias=-3.0)))),
        'unicl': model(dict(contrast=dict(type='ImageTextContrast', loss=dict(type='UniCLLoss')))),
        'slip': model(dict(contrast=dict(type='ImageTextContrast'), simclr=dict(type='ImageContrast', head=head))),
    }


@pytest.fixture(scope='module')
def results(tmp_path_factory, request):
    """Results by case of one process, and of two."""
    model, distillation, batch = (
        request.getfixturevalue(name) for name in ('tiny_model_cfg', 'distillation_cfg', 'random_batch')
    )
    contrast = dict(contrast=dict(type='ImageTextContrast'))
    cases = {
        'v1': model(dict(**contrast, distillation=distillation('v1'))),
        'cvpr': model(dict(**contrast, distillation=distillation('cvpr'))),
        'without gradient': model(dict(contrast=dict(type='ImageTextContrast', gather_with_grad=False))),
    }
    cases['late start'] = model(dict(**contrast, distillation=distillation('cvpr', start_fraction=0.5)))
    cases |= _contrastive_cases(model)
    cases['slip without gradient'] = deepcopy(cases['slip'])
    cases['slip without gradient']['objectives']['simclr']['gather_with_grad'] = False
    head = dict(type='PrototypeHead', in_channels=16, num_prototypes=24, hidden_channels=32, bottleneck_channels=8)
    local = dict(type='LocalToGlobalDistillation', head=head, loss=dict(type='CodewordLoss', num_prototypes=24))
    cases['silc'] = model(dict(contrast=dict(type='ImageTextContrast', images=('image', 'image_2')), local=local))
    decoder = dict(type='TextDecoder', width=16, num_heads=2, depth=1, vocab_size=100)
    cases['mlm'] = model(dict(**contrast, mlm=dict(type='MaskedLanguageModeling', decoder=decoder)))
    images = {
        name: batch(BATCH, seed=i)['image'] for i, name in enumerate(('augmented_1', 'augmented_2', 'image_2'), 1)
    }
    images['local'] = torch.stack([batch(BATCH, seed=i)['image'][..., :16, :16] for i in (4, 5)], dim=1)
    # The second process has both a class of the first and pairs.
    data = batch(BATCH) | images | {'label': torch.tensor([4, -1, 4, 4, -1, 2])}
    cases = {name: (cfg, data) for name, cfg in cases.items()}
    folder = tmp_path_factory.mktemp('two_processes')
    torch.save(cases, folder / 'cases.pt')
    run_ranks(_run_as_one_of_two, folder)
    two = torch.load(folder / 'results.pt')
    return {name: (_step(*case), two[name]) for name, case in cases.items()}


@pytest.mark.parametrize('form', ['v1', 'cvpr', 'sigmoid', 'unicl', 'slip', 'silc', 'mlm', 'late start'])
@pytest.mark.parametrize('what', ['losses', 'grads', 'centers'])
def test_equal_to_one_process_with_the_doubled_batch(results, form, what):
    one, two = results[form]
    assert one[what].keys() == two[what].keys()
    for name, expected in one[what].items():
        torch.testing.assert_close(two[what][name], expected, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f'{n}: {m}')


def test_an_objective_that_starts_late_leaves_its_parameters_alone(results):
    for result in results['late start']:
        assert list(result['losses']) == ['contrast_loss']
        assert not [name for name in result['grads'] if 'distillation' in name]
        assert not result['centers']['objectives.distillation.loss.center'].any()


@pytest.mark.parametrize(
    ('case', 'weight'),
    [
        ('without gradient', 'image_projection.projection.weight'),
        ('slip without gradient', 'objectives.simclr.head.fc0.weight'),
    ],
)
def test_without_gradient_through_the_gather_it_is_not(results, case, weight):
    one, two = results[case]
    torch.testing.assert_close(two['losses'], one['losses'])
    assert not torch.allclose(two['grads'][weight], one['grads'][weight], rtol=1e-2)
