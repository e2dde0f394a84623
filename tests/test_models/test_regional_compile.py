import copy
from pathlib import Path

import pytest
import tiny_models
import torch
import torch.distributed as dist
from ranks import run_ranks
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.parallel import DistributedDataParallel

from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing
from mmmaskclip.engine.distributed.fsdp import FullyShardedModel
from mmmaskclip.models import regional_compile
from mmmaskclip.models.backbones import CLIPVisionTransformer, TransformerBlock
from mmmaskclip.models.backbones.transformer_block import CausalBlock, run_blocks
from mmmaskclip.models.regional_compile import compile_regions
from mmmaskclip.registry import MODELS


@pytest.fixture(autouse=True)
def fresh_dynamo():
    before = torch._dynamo.config.recompile_limit, torch._dynamo.config.optimize_ddp
    yield
    torch._dynamo.config.recompile_limit, torch._dynamo.config.optimize_ddp = before
    torch._dynamo.reset()


def _run(blocks, length):
    x = torch.ones(2, length, 16, requires_grad=True)
    y = x
    for block in blocks:
        y = block(y)
    y.sum().backward()
    return y


def test_blocks_compile_to_one_whole_graph_per_kind_for_all_caption_lengths():
    """fullgraph=True raises at a graph break, error_on_recompile at a graph beyond the first of each kind."""
    image = nn.ModuleList(TransformerBlock(16, 4, 32) for _ in range(3))
    text = nn.ModuleList(CausalBlock(16, 4, 32) for _ in range(3))
    counter = CompileCounter()
    expected = [_run(image, 7), _run(text, 5)]
    assert compile_regions(nn.ModuleList([image, text]), dict(backend=counter))
    results = [_run(image, 7), _run(text, 5)]
    torch.testing.assert_close(results, expected)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (3, 9, 4):
            _run(text, length)
    assert counter.frame_count == 2


@pytest.mark.parametrize(('kind', 'arguments'), [(TransformerBlock, ()), (CausalBlock, (None, None, 0, 0))])
def test_blocks_run_a_few_at_a_time_in_one_graph_and_by_themselves_where_hooks_look_at_them(kind, arguments):
    blocks, counter = nn.ModuleList(kind(16, 4, 32) for _ in range(8)), CompileCounter()
    x = torch.randn(2, 7, 16, requires_grad=True)
    expected = run_blocks(blocks, x, *arguments)
    compile_regions(blocks, dict(backend=counter))
    torch.testing.assert_close(run_blocks(blocks, x, *arguments), expected)
    assert counter.frame_count == 1  # of four blocks, for both halves
    assert counter.op_count > 4 * 5
    seen = []
    blocks[5].register_forward_hook(lambda block, inputs, output: seen.append(output))
    torch.testing.assert_close(run_blocks(blocks, x, *arguments), expected)
    assert len(seen) == 1


def test_blocks_of_all_drop_path_rates_share_a_graph():
    arch = dict(embed_dims=16, num_layers=5, num_heads=2, feedforward_channels=32)
    tower = CLIPVisionTransformer(arch, patch_size=8, img_size=32, drop_path_rate=0.3)
    counter = CompileCounter()
    compile_regions(tower.layers, dict(backend=counter))
    tower.encode(torch.randn(4, 16, 16)).cls.sum().backward()
    assert counter.frame_count == 2  # the first block drops nothing


def test_many_sizes_run_uncompiled_and_copies_run_their_own_weights():
    block, counter = TransformerBlock(16, 4, 32), CompileCounter()
    compile_regions(block, dict(backend=counter))
    for length in range(2, 14):
        _run([block], length)
    assert counter.frame_count == regional_compile._MOST_SIZES
    twin = copy.deepcopy(block)
    nn.init.zeros_(twin.attn.proj.weight)
    assert not torch.equal(_run([twin], 2), _run([block], 2))
    with torch.no_grad():  # inference needs few graphs for any number of sizes
        for length in range(2, 30):
            block(torch.randn(length, 3 * length, 16))
    assert counter.frame_count <= regional_compile._MOST_SIZES + 4


def test_switch(monkeypatch):
    model = nn.Sequential(TransformerBlock(16, 4, 32))
    monkeypatch.setattr(regional_compile.shutil, 'which', lambda name: None)
    assert not compile_regions(model, False)
    assert not compile_regions(model, 'auto')  # no GPU here
    assert '_compiled_regions' not in vars(model[0])
    with pytest.raises(ValueError, match=r'compiled=True, but torch.compile needs a C\+\+ compiler'):
        compile_regions(model, True)
    lines = []
    monkeypatch.setattr(regional_compile, 'print_log', lambda text, **_: lines.append(text))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert not compile_regions(model, 'auto')
    assert 'set model.compiled=False. The model runs uncompiled.' in lines[0]


@pytest.mark.parametrize('size', [(32, 32), (32, 48)])
def test_patch_embedding_from_pixels_equals_that_of_normalized_images(size):
    model = MODELS.build(tiny_models.model())
    model.init_weights()
    pixels, normalize = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8), model.data_preprocessor
    nn.init.normal_(model.image_encoder.pos_embed)
    nn.init.normal_(model.image_encoder.patch_embed.projection.bias)
    expected, grid = model.image_encoder.embed(normalize.normalize(pixels))
    tokens, found = model.image_encoder.embed_pixels(pixels, normalize.mean, normalize.std)
    assert found == grid
    torch.testing.assert_close(tokens, expected, rtol=1e-5, atol=1e-5)
    assert model.image_encoder.embed_pixels(pixels[..., :30], normalize.mean, normalize.std) is None


def _step(model, batch):
    torch.manual_seed(3)
    losses = model(mode='loss', **model.data_preprocessor(batch, training=True))
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {name: value.detach() for name, value in losses.items()}, grads


def _pair(objectives, **options):
    """A plain and a compiled model of the same weights."""
    text = options.pop('text', {})
    drop_path = options.pop('drop_path_rate', 0.0)
    models = []
    for compiled in (False, options.pop('compiled', dict(backend='eager'))):
        cfg = tiny_models.model(objectives, drop_path) | dict(compiled=compiled, **options)
        cfg['text_encoder'] |= text
        models.append(MODELS.build(cfg).train())
    models[0].init_weights()
    models[1].load_state_dict(models[0].state_dict())
    return models


def _captions_of(batch, lengths):
    """The batch with captions of these numbers of tokens."""
    tokens = torch.randint(1, 98, (len(batch['seed']), max(lengths)), dtype=torch.int32)
    for row in range(len(tokens)):
        end = lengths[row % len(lengths)] - 1
        tokens[row, end], tokens[row, end + 1 :] = 99, 0
    return batch | dict(tokens=tokens)


@pytest.mark.parametrize(
    ('name', 'packed'),
    [('regression', False), ('shared target', True), ('codewords', True), ('local to global', True)],
)
def test_an_epoch_of_changing_caption_lengths_compiles_once_and_equals_the_plain_model(tmp_path, name, packed):
    tiny_models.write_weights(tmp_path)
    objectives = tiny_models.objectives(tmp_path)[name]
    counter = CompileCounter()
    plain, compiled = _pair(objectives, text=dict(packed=packed), compiled=dict(backend=counter))
    batch = tiny_models.full_batch(4)
    torch.testing.assert_close(_step(compiled, batch), _step(plain, batch), rtol=1e-3, atol=1e-4)
    assert compiled.data_preprocessor(batch, training=True)['image'].dtype == torch.uint8
    graphs = counter.frame_count
    assert graphs >= 4
    with torch._dynamo.config.patch(error_on_recompile=True):
        for lengths in ((3, 5), (9, 4, 7), (6,), (12, 2)):
            changed = _captions_of(batch, lengths)
            torch.testing.assert_close(_step(compiled, changed), _step(plain, changed), rtol=1e-3, atol=1e-4)
    assert counter.frame_count == graphs


def test_with_checkpoints_drop_path_and_micro_batches(tmp_path):
    objectives = dict(contrast=dict(type='ImageTextContrast'), distillation=tiny_models.distillation('cvpr'))
    plain, compiled = _pair(objectives, drop_path_rate=0.5, micro_batch_size=2, compiled=dict(backend='eager'))
    for model in (plain, compiled):
        turn_on_activation_checkpointing(model, ['image_encoder.layers', 'text_encoder.layers'])
    batch = tiny_models.full_batch(4)
    torch.testing.assert_close(_step(compiled, batch), _step(plain, batch), rtol=1e-3, atol=1e-4)


def _train_in_several_processes(folder: Path) -> None:
    dist.init_process_group('gloo')
    results = {}
    for kind in ('ddp', 'fsdp'):
        for compiled in (False, dict(backend='eager')):
            torch.manual_seed(0)
            model = MODELS.build(tiny_models.model() | dict(compiled=compiled))
            model.init_weights()
            wrapped = DistributedDataParallel(model) if kind == 'ddp' else FullyShardedModel(model)
            losses = []
            for step in range(2):
                batch = _captions_of(tiny_models.full_batch(4, step), (5 + step, 3))
                losses.append(wrapped(mode='loss', **model.data_preprocessor(batch, training=True)))
                sum(losses[-1].values()).backward()
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.data.sub_(0.1 * parameter.grad)
                model.zero_grad()
            results[kind, bool(compiled)] = torch.stack([v.detach() for each in losses for v in each.values()])
    if dist.get_rank() == 0:
        torch.save(results, folder / 'losses.pt')


def test_in_several_processes(tmp_path):
    run_ranks(_train_in_several_processes, tmp_path)
    results = torch.load(tmp_path / 'losses.pt')
    for kind in ('ddp', 'fsdp'):
        torch.testing.assert_close(results[kind, True], results[kind, False], rtol=1e-3, atol=1e-4)
