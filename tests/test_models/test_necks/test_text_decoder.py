import pytest
import torch

from mmmaskclip.engine.distributed.activation_checkpointing import turn_on_activation_checkpointing
from mmmaskclip.models.backbones.packed_captions import Packing, attend_packed
from mmmaskclip.models.necks import TextDecoder


def _decoder(depth=2):
    decoder = TextDecoder(width=8, num_heads=2, depth=depth, vocab_size=11)
    decoder.init_weights()
    return decoder


def _inputs():
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[1, 4:] = True
    return torch.randn(3, 6, 8), padding, torch.tensor([0, 0, 1, 1, 2]), torch.tensor([1, 4, 2, 1, 3])


def test_depth_0_is_the_linear_layer_at_the_positions():
    decoder = _decoder(0)
    features, padding, captions, positions = _inputs()
    words = [features[row, at] for row, at in zip(captions, positions, strict=True)]
    expected = torch.stack([word @ decoder.vocabulary.weight.t() for word in words])
    torch.testing.assert_close(decoder(features, padding, captions, positions), expected)
    assert {name.split('.')[0] for name, _ in decoder.named_parameters()} == {'vocabulary'}


def test_predicts_at_the_positions_only():
    decoder = _decoder()
    features, padding, captions, positions = _inputs()
    all_captions, all_positions = torch.meshgrid(torch.arange(3), torch.arange(6), indexing='ij')
    everywhere = decoder(features, padding, all_captions.flatten(), all_positions.flatten()).view(3, 6, 11)
    torch.testing.assert_close(decoder(features, padding, captions, positions), everywhere[captions, positions])


def test_looks_both_ways_but_not_at_padding():
    decoder = _decoder()
    features, padding, captions, positions = _inputs()
    features.requires_grad_()
    decoder(features, padding, captions, positions)[2].sum().backward()
    seen = features.grad.abs().sum(dim=-1)
    assert (seen[1, :4] > 0).all()
    assert not seen[1, 4:].any()
    assert not seen[[0, 2]].any()


def test_blocks_start_different():
    first, second = _decoder().blocks.layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    assert not torch.equal(first.self_attn.in_proj_weight, second.self_attn.in_proj_weight)


@pytest.mark.parametrize('depth', [0, 2])
def test_every_parameter_learns(depth):
    decoder = _decoder(depth)
    decoder(*_inputs()).pow(2).sum().backward()
    # A bias of the keys moves all scores of a query alike; it is a third of the parameter.
    assert all(parameter.grad.any() for parameter in decoder.parameters())


def test_evaluation_equals_training():
    decoder, inputs = _decoder(), _inputs()
    expected = decoder(*inputs)
    with torch.no_grad():
        torch.testing.assert_close(decoder.eval()(*inputs), expected)


def test_activation_checkpointing_reaches_blocks_on_packed_words(monkeypatch):
    features, padding, captions, positions = _inputs()
    packing = Packing.of(features, [5, 3, 5], 6)
    gradients, stored = [], []
    for checkpointed in (False, True):
        torch.manual_seed(0)
        decoder = _decoder()
        if checkpointed:
            turn_on_activation_checkpointing(decoder, 'blocks.layers')
        stored.append(0)

        def store(x):
            stored[-1] += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(store, lambda x: x):
            logits = decoder(features.flatten(0, 1)[packing.places], None, captions, positions, packing)
        torch.testing.assert_close(logits, decoder(features, padding, captions, positions))
        logits.sum().backward()
        gradients.append([parameter.grad for parameter in decoder.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert stored[1] < stored[0] / 2


def test_attention_without_padding_refuses_dropout():
    with pytest.raises(ValueError, match=r'attn_drop is 0\.1: set it to 0, or text_encoder\.packed=False'):
        attend_packed(torch.zeros(5, 24), 2, None, torch.tensor([0, 2, 5]), 2, 3, True, 0.1)
