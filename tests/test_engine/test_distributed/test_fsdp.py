"""Training with sharded parameters on two processes equals DDP, and its checkpoints are anybody's."""

import pprint
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from paths import CONFIGS
from PIL import Image
from ranks import run_ranks
from torch.distributed.tensor import DTensor

from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.cli.test import main as run_test
from mmmaskclip.engine import FullyShardedModel, ReliableRunner
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.backbones.read_outs import READ_OUTS
from mmmaskclip.registry import MODELS
from mmmaskclip.startup import processes
from mmmaskclip.startup.processes import setup_processes

ITERATIONS = 8
COLOURS = ['red', 'green', 'blue', 'grey', 'black', 'white', 'brown', 'pink']
FSDP = 'FullyShardedModel'
SPARING = {'model.micro_batch_size': 1, 'activation_checkpointing': ['image_encoder.layers', 'text_encoder.layers']}
BF16 = {'optim_wrapper.precision': 'bf16'}
FP16 = {'optim_wrapper.precision': 'fp16'}
# By name: the wrapper, whose checkpoint is resumed, and options.
RUNS = {
    'ddp': (None, None, {}),
    'fsdp': (FSDP, None, {}),
    'fsdp from fsdp': (FSDP, 'fsdp', {}),
    'ddp from fsdp': (None, 'fsdp', {}),
    'fsdp from ddp': (f'mmmaskclip.{FSDP}', 'ddp', {}),
    'sparing fsdp from ddp': (FSDP, 'ddp', SPARING),
    'ddp in bf16': (None, 'ddp', BF16),
    'fsdp in bf16': (FSDP, 'ddp', BF16),
    'ddp in fp16': (None, 'ddp', FP16),
    'fsdp in fp16': (FSDP, 'ddp', FP16),
}


def _write_config(folder: Path, model: dict) -> None:
    for index in range(16):
        Image.new('RGB', (32, 32), (16 * index, 255 - 16 * index, 7 * index)).save(folder / f'{index}.png')
    lines = [f'{index}.png,a {COLOURS[index % 8]} thing number {index}\n' for index in range(16)]
    (folder / 'pairs.csv').write_text('filepath,caption\n' + ''.join(lines))
    views = {'image': [dict(type='torchvision/RandomResizedCrop', size=32)]}
    plain = {'image': [dict(type='torchvision/Resize', size=32)]}
    pairs = dict(type='ImageTextPairs', ann_file=str(folder / 'pairs.csv'))
    collate = dict(type='mmmaskclip.collate_image_text')
    evaluation = dict(
        dataset=dict(**pairs, views=plain, test_mode=True),
        batch_size=3,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=collate,
    )
    cfg = dict(
        model=model,
        train_dataloader=dict(
            dataset=dict(**pairs, views=views),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=collate,
        ),
        train_cfg=dict(type='PretrainLoop', max_epochs=2, val_interval=1),
        optim_wrapper=dict(
            type='PretrainOptimWrapper',
            constructor='PretrainOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1, fused=True, eps=1e-4),
            clip_grad=dict(max_norm=0.5),
            accumulative_counts=2,
        ),
        param_scheduler=[dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=ITERATIONS)],
        val_dataloader=dict(retrieval=evaluation),
        val_evaluator=dict(retrieval=dict(type='RetrievalRecall')),
        val_cfg=dict(type='EvaluationLoop'),
        test_dataloader=dict(retrieval=evaluation),
        test_evaluator=dict(retrieval=dict(type='RetrievalRecall')),
        test_cfg=dict(type='EvaluationLoop'),
        default_hooks=dict(checkpoint=dict(interval=4, max_keep_ckpts=9), logger=dict(interval=1)),
    )
    base = CONFIGS / '_base_/default_runtime.py'
    text = [f'_base_ = {str(base)!r}', *(f'{key} = {pprint.pformat(value)}' for key, value in cfg.items())]
    (folder / 'config.py').write_text('\n'.join(text) + '\n')


def _embeddings(model: torch.nn.Module) -> list[torch.Tensor]:
    """What the evaluation asks for beside ``forward``."""
    tokens = torch.tensor([[49406, 5, 49407], [49406, 7, 49407]])
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = [model.eval().encode_text(tokens), model.encode_image(images)]
        embeddings += [model.encode_dense(images, read_out) for read_out in READ_OUTS]
        # As probes do.
        embedded, _ = model.image_encoder.embed(images)
        return [*embeddings, model.image_encoder.features(images).patches, model.image_encoder.encode(embedded).cls]


def _look_into(runner: ReliableRunner) -> dict:
    """What this process holds of the model, after it was asked for embeddings."""
    embeddings = _embeddings(runner.model.module)
    named = dict(runner.model.module.named_parameters())
    split = {name: parameter for name, parameter in named.items() if isinstance(parameter, DTensor)}
    states = [runner.optim_wrapper.optimizer.state.get(parameter) for parameter in split.values()]
    return dict(
        embeddings=embeddings,
        whole=sorted(named.keys() - split.keys()),
        own=sum(parameter.to_local().numel() for parameter in split.values()),
        all=sum(parameter.numel() for parameter in split.values()),
        own_state=sum(state['exp_avg'].to_local().numel() for state in states if state),
        all_state=sum(state['exp_avg'].numel() for state in states if state),
    )


def _train_as_one_of_two(folder: Path) -> None:
    dist.init_process_group('gloo')
    for name, (wrapper, source, options) in RUNS.items():
        cfg = Config.fromfile(folder / 'config.py')
        cfg.work_dir, cfg.launcher = str(folder / name), 'pytorch'
        ddp = dict(type='MMDistributedDataParallel', device_ids=None, gradient_as_bucket_view=True)
        cfg.model_wrapper_cfg = dict(type=wrapper) if wrapper else ddp
        cfg.merge_from_dict(options)
        if source:
            cfg.load_from, cfg.resume = str(folder / source / 'iter_4.pth'), True
        runner = ReliableRunner.from_cfg(cfg)
        runner.train()
        if name == 'fsdp':
            torch.save(_look_into(runner), folder / f'fsdp_{dist.get_rank()}.pt')
        del runner


@pytest.fixture(scope='module')
def folder(tmp_path_factory, request):
    """Work directories of all runs."""
    register_all_modules(init_default_scope=False)
    folder = tmp_path_factory.mktemp('fsdp')
    model, distillation = (request.getfixturevalue(name) for name in ('tiny_model_cfg', 'distillation_cfg'))
    loss = dict(type='SigmoidLoss', init_bias=-3.0)
    cfg = model(dict(contrast=dict(type='ImageTextContrast', loss=loss), distillation=distillation('cvpr')))
    cfg['text_encoder']['vocab_size'] = 49408
    cfg['teacher_momentum'] = 0.9
    _write_config(folder, cfg)
    run_ranks(_train_as_one_of_two, folder)
    return folder


def _assert_equal(found: dict, expected: dict, exactly: bool = False) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        tolerance = dict(rtol=0, atol=0) if exactly else dict(rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found[name], value, **tolerance, msg=lambda m, n=name: f'{n}: {m}')


def _optimizer_states(checkpoint: dict) -> dict:
    return {
        f'{index}.{key}': value
        for index, state in checkpoint['optimizer']['state'].items()
        for key, value in state.items()
    }


def _last(folder: Path, name: str) -> dict:
    return read_checkpoint(folder / name / f'iter_{ITERATIONS}.pth')


def test_model_teacher_and_optimizer_equal_those_of_ddp(folder):
    found, expected = _last(folder, 'fsdp'), _last(folder, 'ddp')
    assert any(name.startswith('teacher.') for name in expected['state_dict'])
    _assert_equal(found['state_dict'], expected['state_dict'])
    _assert_equal(_optimizer_states(found), _optimizer_states(expected))


def test_the_log_has_the_same_losses_gradient_norms_and_validations(folder):
    found, expected = (_last(folder, name)['message_hub']['log_scalars'] for name in ('fsdp', 'ddp'))
    for key in ('train/loss', 'train/grad_norm', 'val/retrieval/image_to_text_R@1'):
        assert found[key]._log_history.tolist() == pytest.approx(expected[key]._log_history.tolist(), rel=1e-4)


def test_each_process_holds_half(folder):
    for rank in range(2):
        held = torch.load(folder / f'fsdp_{rank}.pt')
        assert held['whole'] == ['objectives.contrast.logit_scale', 'objectives.contrast.loss.bias']
        # Class tokens and positions are one row each, which is on the first process.
        assert held['own'] == pytest.approx(held['all'] / 2, rel=0.05)
        assert held['own_state'] == pytest.approx(held['all_state'] / 2, rel=0.05)
        # The teacher is split, and has no optimizer state.
        assert held['all_state'] < held['all']


def test_embeddings_can_be_asked_for_beside_forward(folder):
    model = MODELS.build(Config.fromfile(folder / 'config.py').model)
    load_weights(model, folder / 'fsdp' / f'iter_{ITERATIONS}.pth')
    for rank in range(2):
        found = torch.load(folder / f'fsdp_{rank}.pt')['embeddings']
        torch.testing.assert_close(found, _embeddings(model))


def test_a_resumed_run_ends_with_the_same_bits(folder):
    found, expected = _last(folder, 'fsdp from fsdp'), _last(folder, 'fsdp')
    _assert_equal(found['state_dict'], expected['state_dict'], exactly=True)
    _assert_equal(_optimizer_states(found), _optimizer_states(expected), exactly=True)


# The sparing one computes micro-batches, and blocks a second time.
@pytest.mark.parametrize('name', ['ddp from fsdp', 'fsdp from ddp', 'sparing fsdp from ddp'])
def test_a_run_goes_on_with_the_other_wrapper(folder, name):
    found, expected = _last(folder, name), _last(folder, 'ddp')
    _assert_equal(found['state_dict'], expected['state_dict'])
    _assert_equal(_optimizer_states(found), _optimizer_states(expected))


@pytest.mark.parametrize('precision', ['bf16', 'fp16'])
def test_in_half_precision_too_it_equals_ddp(folder, precision):
    names = f'fsdp in {precision}', f'ddp in {precision}', 'ddp'
    found, expected, exact = (_last(folder, name)['state_dict'] for name in names)
    _assert_equal(found, expected)
    with pytest.raises(AssertionError):
        _assert_equal(found, exact)


def test_one_process_goes_on_with_the_global_batch(folder, tmp_path):
    cfg = Config.fromfile(folder / 'config.py')
    cfg.work_dir, cfg.launcher, cfg.train_dataloader.batch_size = str(tmp_path), 'none', 4
    cfg.load_from, cfg.resume = str(folder / 'fsdp' / 'iter_4.pth'), True
    ReliableRunner.from_cfg(cfg).train()
    found, expected = read_checkpoint(tmp_path / f'iter_{ITERATIONS}.pth'), _last(folder, 'ddp')
    _assert_equal(found['state_dict'], expected['state_dict'])
    _assert_equal(_optimizer_states(found), _optimizer_states(expected))


def test_one_process_evaluates_the_checkpoint(folder, tmp_path):
    def metrics(name):
        checkpoint = folder / name / f'iter_{ITERATIONS}.pth'
        return run_test([str(folder / 'config.py'), str(checkpoint), '--work-dir', str(tmp_path / name)])

    found = metrics('fsdp')
    assert found == pytest.approx(metrics('ddp'))
    assert 'retrieval/image_to_text_R@1' in found


def test_arguments_of_ddp_stay_with_ddp(monkeypatch):
    monkeypatch.setattr(processes, '_make_group', lambda cfg, device: None)
    cfg = Config(dict(launcher='pytorch', model_wrapper_cfg=dict(type=FSDP)))
    setup_processes(cfg)
    assert cfg.model_wrapper_cfg == dict(type=FSDP)


def test_one_process_is_told_to_start_several():
    with pytest.raises(RuntimeError, match='needs several processes'):
        FullyShardedModel(torch.nn.Linear(2, 2))
