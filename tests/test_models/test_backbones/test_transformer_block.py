import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn
from torch._dynamo.testing import CompileCounter

from mmmaskclip.models.backbones import transformer_block
from mmmaskclip.models.backbones.transformer_block import CausalBlock, TransformerBlock, compile_blocks, gather_tokens
from mmmaskclip.registry import MODELS


@pytest.mark.parametrize('options', [{}, dict(drop_path_rate=0.5), dict(layer_scale_init_value=0.1, drop_rate=0.3)])
def test_bits_of_outputs_and_gradients_are_mmpretrains(options):
    theirs, ours = (kind(16, 4, 32, **options) for kind in (TransformerEncoderLayer, TransformerBlock))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    results = []
    for block in (theirs, ours):
        torch.manual_seed(1)
        x = torch.randn(3, 7, 16, requires_grad=True)
        y = block(x)
        (y * torch.randn_like(y)).sum().backward()
        results.append([y, x.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_causal_block_does_not_look_ahead():
    block = CausalBlock(16, 4, 32)
    x = torch.randn(2, 5, 16)
    changed = x.clone()
    changed[:, 3:] += 1
    torch.testing.assert_close(block(changed)[:, :3], block(x)[:, :3], rtol=0, atol=0)
    assert not torch.allclose(TransformerBlock.forward.__get__(_twin(block))(changed)[:, :3], block(x)[:, :3])


def _twin(block):
    twin = TransformerBlock(16, 4, 32)
    twin.load_state_dict(block.state_dict())
    return twin


def test_some_queries_give_the_outputs_of_these_tokens():
    block, x, queries = TransformerBlock(16, 4, 32), torch.randn(2, 6, 16), torch.tensor([[4, 0], [1, 5]])
    torch.testing.assert_close(block(x, queries), gather_tokens(block(x), queries))


@pytest.fixture
def recompile_limit():
    before = torch._dynamo.config.recompile_limit
    yield
    torch._dynamo.config.recompile_limit = before
    torch._dynamo.reset()


def test_blocks_compile_to_one_whole_graph_per_kind_for_all_caption_lengths(recompile_limit):
    """fullgraph=True raises at a graph break, error_on_recompile at a graph beyond the first of each kind."""
    image = nn.ModuleList(TransformerBlock(16, 4, 32) for _ in range(3))
    text = nn.ModuleList(CausalBlock(16, 4, 32) for _ in range(3))
    counter = CompileCounter()
    expected = [_run(image, 7), _run(text, 5)]
    assert compile_blocks(nn.ModuleList([image, text]), dict(backend=counter))
    results = [_run(image, 7), _run(text, 5)]
    torch.testing.assert_close(results, expected)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in (3, 9, 4):
            _run(text, length)
    assert counter.frame_count == 2


def test_drop_path_does_not_break_the_graph(recompile_limit, tiny_model_cfg):
    cfg = tiny_model_cfg()['image_encoder']
    tower = MODELS.build(cfg | dict(drop_path_rate=0.1))
    assert compile_blocks(tower, dict(backend=CompileCounter()))
    tower.encode(torch.randn(2, 16, 32)).cls.sum().backward()


def _run(blocks, length):
    x = 1 * torch.ones(2, length, 16, requires_grad=True)
    for block in blocks:
        x = block(x)
    x.sum().backward()
    return x


def test_switch(monkeypatch):
    model = nn.Sequential(TransformerBlock(16, 4, 32))
    monkeypatch.setattr(transformer_block.shutil, 'which', lambda name: None)
    assert not compile_blocks(model, False)
    assert not compile_blocks(model, 'auto')  # no GPU here
    assert model[0]._compiled_call_impl is None
    with pytest.raises(ValueError, match=r'compiled=True, but torch.compile needs a C\+\+ compiler'):
        compile_blocks(model, True)
