import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer

from mmmaskclip.models.backbones.transformer_block import (
    CausalBlock,
    TransformerBlock,
    gather_tokens,
    share_drop_paths,
)


@pytest.mark.parametrize('options', [{}, dict(drop_path_rate=0.5), dict(layer_scale_init_value=0.1, drop_rate=0.3)])
def test_bits_of_outputs_and_gradients_are_mmpretrains(options):
    theirs, ours = (kind(16, 4, 32, **options) for kind in (TransformerEncoderLayer, TransformerBlock))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    share_drop_paths(ours)
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
