"""Micro-batches must give what the whole batch gives, for every objective, and more of them need no more memory."""

import weakref
from copy import deepcopy
from pathlib import Path

import pytest
import tiny_models
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from ranks import run_ranks
from torch.utils._python_dispatch import TorchDispatchMode

from mmmaskclip.engine import PretrainOptimWrapper
from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing
from mmmaskclip.models.objectives import Objective
from mmmaskclip.models.pretrainers import micro_batches
from mmmaskclip.registry import MODELS

BATCH = 10
BATCH_NORM_NECK = tiny_models.LAYER_NORM_NECK | dict(norm_cfg=dict(type='SyncBN'))


@pytest.fixture
def model_cfg(tmp_path):
    """A function that gives the config of the tiny pretrainer with the objectives of that name."""

    tiny_models.write_weights(tmp_path)

    def build(name, drop_path_rate=0.0):
        return tiny_models.model(tiny_models.objectives(tmp_path)[name], drop_path_rate)

    return build


def data(size=BATCH):
    """A batch with all the views, as a loader gives it."""
    return tiny_models.full_batch(size) | dict(key=['key'] * size, skipped=[])


def test_micro_batches_know_the_ends_of_their_captions():
    batch = {'tokens': torch.zeros(5, 4), 'caption_ends': [1, 2, 3, 0, 1], 'key': list('abcde')}
    parts = micro_batches._split(batch, 2)
    assert [part['caption_ends'] for part in parts] == [[1, 2], [3, 0], [1]]
    assert [set(part) for part in parts] == [{'tokens', 'caption_ends'}] * 3


def _train(cfg, batch, steps=3, precision='fp32', accumulative_counts=1, wrap=None, change=lambda model: None):
    """Train with SGD; losses, gradients of the first step, and parameters and buffers at the end."""
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    model.init_weights()
    change(model)
    # Parameters that start at zero would leave others without gradient.
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    wrapped = wrap(model) if wrap else model
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    optim_wrapper = PretrainOptimWrapper(optimizer, precision, accumulative_counts)
    optim_wrapper.initialize_count_status(model, 0, steps)
    grads: dict = {}

    def keep_first_gradients(*_):
        if not grads:
            grads.update({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})

    optimizer.register_step_pre_hook(keep_first_gradients)
    torch.manual_seed(2)
    model.train()
    losses = []
    for _ in range(steps):
        taken = optim_wrapper.steps_taken
        losses.append(wrapped.train_step(batch, optim_wrapper))
        if optim_wrapper.steps_taken > taken:
            model.after_optimizer_step()
    buffers = {name: value for name, value in model.named_buffers() if 'pending' not in name}
    return dict(losses=losses, grads=grads, state=dict(model.named_parameters()) | buffers)


def _assert_equal(result, expected, rtol=1e-3, atol=1e-5):
    assert len(expected['grads']) > 20
    for what in ('losses', 'grads', 'state'):
        torch.testing.assert_close(result[what], expected[what], rtol=rtol, atol=atol)


@pytest.mark.parametrize('name', tiny_models.OBJECTIVES)
def test_equals_the_whole_batch_for_three_steps(model_cfg, name):
    cfg = model_cfg(name)
    # The last micro-batch is smaller than the others.
    _assert_equal(_train(cfg | dict(micro_batch_size=4), data()), _train(cfg, data()))


@pytest.fixture
def one_graph(monkeypatch):
    """A function that lets micro-batches be kept in memory until the backward pass, so that each is computed once."""
    return lambda: monkeypatch.setattr(micro_batches, 'checkpoint', lambda compute, part, **_: compute(part))


@pytest.mark.parametrize('name', ['local to global', 'codewords', 'image contrast'])
def test_second_pass_drops_the_same_paths(model_cfg, one_graph, name):
    """Bit for bit, and so does the state of the generator afterwards."""
    cfg = model_cfg(name, drop_path_rate=0.5) | dict(micro_batch_size=4)
    result, state = _train(cfg, data()), torch.get_rng_state()
    one_graph()
    expected = _train(cfg, data())
    _assert_equal(result, expected, rtol=0, atol=0)
    assert torch.equal(state, torch.get_rng_state())
    without = _train(model_cfg(name) | dict(micro_batch_size=4), data())
    with pytest.raises(AssertionError):
        _assert_equal(without, expected)


def test_second_pass_is_not_counted_by_the_codeword_loss(model_cfg):
    model = MODELS.build(model_cfg('codewords') | dict(micro_batch_size=4))
    sum(model(mode='loss', **model.data_preprocessor(data())).values()).backward()
    assert model.objectives['distillation'].loss.pending[-1] == 12 * BATCH  # the masked ones of 16 patches


def test_accumulation_of_micro_batched_iterations_equals_that_of_whole_ones(model_cfg):
    cfg = model_cfg('codewords')
    result = _train(cfg | dict(micro_batch_size=5), data(), steps=4, accumulative_counts=2)
    _assert_equal(result, _train(cfg, data(), steps=4, accumulative_counts=2))


def test_weight_gradients_of_micro_batches_add_up_in_float32(model_cfg, one_graph):
    """Under autocast one bfloat16 copy of a weight would serve all micro-batches, and collect their gradients."""
    cfg = model_cfg('regression')
    batch = data(32)
    result = _train(cfg | dict(micro_batch_size=1), batch, steps=1, precision='bf16')['grads']
    exact = _train(cfg, batch, steps=1)['grads']
    rounded = _train(cfg, batch, steps=1, precision='bf16')['grads']
    name = 'image_encoder.layers.0.ffn.layers.1.weight'
    assert (result[name] - exact[name]).norm() < 1.2 * (rounded[name] - exact[name]).norm()
    # Bfloat16 has 8 bits of precision; of a sum of 32 terms in it, all values would fit into them.
    assert not torch.equal(result[name], result[name].bfloat16().float())


class _LiveBytes(TorchDispatchMode):
    """Bytes of all tensors that were made in this context and still exist, and the most there ever were.

    Args:
        without: Tensors made before, whose views are not counted either.
    """

    def __init__(self, without):
        super().__init__()
        self.now, self.peak = 0, 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in without}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        return out

    def _watch(self, storage):
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, number, size):
        self._seen.discard(number)
        self.now -= size


def _peak(cfg, batch):
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    model.init_weights()
    batch = {k: v for k, v in model.data_preprocessor(batch).items() if isinstance(v, torch.Tensor)}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with _LiveBytes(without=[*batch.values(), *model.parameters(), *model.buffers()]) as live:
        sum(model(mode='loss', **batch).values()).backward()
    return live.peak


def test_memory_does_not_grow_with_the_number_of_micro_batches(model_cfg):
    cfg = model_cfg('codewords')
    in_parts = [_peak(cfg | dict(micro_batch_size=8), data(size)) for size in (16, 64)]
    at_once = [_peak(cfg, data(size)) for size in (16, 64)]
    # What is left are the embeddings and their similarities.
    assert in_parts[1] - in_parts[0] < 0.01 * (at_once[1] - at_once[0])
    assert in_parts[1] < 0.25 * at_once[1]


@pytest.mark.parametrize('micro_batch_size', [None, 4])
@pytest.mark.parametrize('name', ['regression', 'local to global'])
def test_activation_checkpointing_changes_nothing(model_cfg, name, micro_batch_size):
    cfg = model_cfg(name, drop_path_rate=0.5) | dict(micro_batch_size=micro_batch_size)
    modules = ['image_encoder.layers', 'text_encoder.layers.0']
    result = _train(cfg, data(), change=lambda model: turn_on_activation_checkpointing(model, modules))
    _assert_equal(result, _train(cfg, data()), rtol=0, atol=0)


def test_activation_checkpointing_saves_memory(model_cfg, monkeypatch):
    cfg = model_cfg('infonce')
    before, build = _peak(cfg, data(16)), MODELS.build

    def build_with(cfg):
        model = build(cfg)
        turn_on_activation_checkpointing(model, ['image_encoder.layers', 'text_encoder.layers'])
        return model

    monkeypatch.setattr(MODELS, 'build', lambda c: build_with(c) if c['type'] == 'ImageTextPretrainer' else build(c))
    assert _peak(cfg, data(16)) < 0.7 * before


@pytest.mark.parametrize(
    ('module', 'message'),
    [('image_encoder.layer', 'Did you mean image_encoder.layers'), ('text_encoder', "name its blocks, 'text_encod")],
)
def test_activation_checkpointing_of_what_is_not_there_is_refused(model_cfg, module, message):
    with pytest.raises(ValueError, match=message):
        turn_on_activation_checkpointing(MODELS.build(model_cfg('infonce')), module)


class _Silent(Objective):
    def forward(self, views):
        return {}


@pytest.mark.parametrize(
    ('objectives', 'size', 'message'),
    [
        (dict(mine=dict(type=_Silent)), 2, r"'mine' \(_Silent\) does not say how it adds up"),
        (
            dict(
                slip=dict(type='ImageContrast', head=tiny_models.LAYER_NORM_NECK | dict(norm_cfg=dict(type='SyncBN')))
            ),
            2,
            r'objectives.slip.head.bn0 \(SyncBatchNorm\) takes statistics over the batch',
        ),
        (None, 0, 'micro_batch_size=0'),
    ],
)
def test_what_would_not_add_up_is_refused_before_training(objectives, size, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(tiny_models.model(objectives) | dict(micro_batch_size=size))


def test_batch_with_several_captions_per_image_is_refused(model_cfg):
    model = MODELS.build(model_cfg('infonce') | dict(micro_batch_size=4))
    batch = data() | dict(tokens=data(2 * BATCH)['tokens'])
    with pytest.raises(ValueError, match="'tokens': 20"):
        model(mode='loss', **model.data_preprocessor(batch))


def _late(cfg):
    cfg = deepcopy(cfg)
    cfg['objectives']['distillation']['start_fraction'] = 0.5
    return cfg


def test_objective_that_has_not_started_yet_gives_no_loss(model_cfg):
    model = MODELS.build(_late(model_cfg('codewords')) | dict(micro_batch_size=4))
    assert set(model(mode='loss', **model.data_preprocessor(data()))) == {'contrast_loss', 'mlm_loss'}


def _wrap(model):
    return MMDistributedDataParallel(model, broadcast_buffers=False)


def _run_as_one_of_two(folder: Path) -> None:
    dist.init_process_group('gloo')
    rank, results = dist.get_rank(), {}
    half = slice(rank * BATCH // 2, (rank + 1) * BATCH // 2)
    cases, batch, modules = torch.load(folder / 'cases.pt', weights_only=False)
    own = {name: value[half] for name, value in batch.items()}
    for name, cfg in cases.items():
        results[name] = _train(cfg, own, wrap=_wrap, change=lambda m: turn_on_activation_checkpointing(m, modules))
        for losses in results[name]['losses']:
            for value in losses.values():
                dist.all_reduce(value)
                value /= 2
    if rank == 0:
        torch.save(results, folder / 'results.pt')


def test_two_processes_equal_one_with_the_whole_batch(model_cfg, tmp_path):
    """Micro-batches, blocks that are computed again, and DDP, all at once."""
    cases = {name: model_cfg(name) | dict(micro_batch_size=2) for name in ('codewords', 'local to global', 'sigmoid')}
    modules = ['image_encoder.layers', 'text_encoder.layers']
    torch.save((cases, data(), modules), tmp_path / 'cases.pt')
    run_ranks(_run_as_one_of_two, tmp_path)
    results = torch.load(tmp_path / 'results.pt')
    for name in cases:
        _assert_equal(results[name], _train(model_cfg(name), data()))
