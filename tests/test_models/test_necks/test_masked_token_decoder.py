import pytest
import torch

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones import gather_tokens
from mmmaskclip.models.necks import MaskedTokenDecoder


def _decoder(depth=1, **options):
    decoder = MaskedTokenDecoder(width=8, num_patches=6, num_heads=2, depth=depth, **options)
    decoder.init_weights()
    return decoder


def test_tokens_enter_the_blocks_in_patch_order_with_positions():
    decoder = _decoder(depth=0)
    features = ImageFeatures(cls=torch.randn(1, 8), patches=torch.randn(1, 2, 8))
    predicted = decoder(features, torch.tensor([[4, 1]]))
    tokens = decoder.mask_token.expand(1, 6, 8).clone()
    tokens[0, 4], tokens[0, 1] = features.patches[0, 0], features.patches[0, 1]
    torch.testing.assert_close(predicted, decoder.final_norm(tokens + decoder.pos_embed[:, 1:]))


def test_hidden_patches_are_predicted_from_visible_ones():
    decoder = _decoder()
    patches = torch.randn(1, 2, 8, requires_grad=True)
    predicted = decoder(ImageFeatures(cls=torch.randn(1, 8), patches=patches), torch.tensor([[4, 1]]))
    assert predicted.shape == (1, 6, 8)
    # A projection, because the plain sum of a normalized token is constant.
    (predicted[:, 0] @ torch.randn(8)).sum().backward()
    assert (patches.grad.abs().sum(-1) > 0).all()
    assert decoder.mask_token.grad.abs().sum() > 0


@pytest.mark.parametrize('depth', [0, 1, 2])
def test_wanted_patches_are_those_of_the_full_prediction(depth):
    decoder = _decoder(depth)
    features = ImageFeatures(cls=torch.randn(2, 8), patches=torch.randn(2, 2, 8))
    visible, wanted = torch.tensor([[4, 1], [0, 5]]), torch.tensor([[3, 0, 5], [2, 3, 1]])
    torch.testing.assert_close(
        decoder(features, visible, wanted), gather_tokens(decoder(features, visible), wanted), rtol=1e-5, atol=1e-6
    )


def test_wanted_patches_give_the_same_gradients():
    decoder = _decoder(depth=2)
    visible, wanted = torch.tensor([[4, 1]]), torch.tensor([[3, 0, 5]])
    cls, patches, projection = torch.randn(1, 8), torch.randn(1, 2, 8), torch.randn(8)
    gradients = []
    for partial in (False, True):
        decoder.zero_grad()
        features = ImageFeatures(cls=cls, patches=patches)
        predicted = decoder(features, visible, wanted) if partial else gather_tokens(decoder(features, visible), wanted)
        (predicted @ projection).square().sum().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in decoder.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


def test_the_last_block_is_computed_for_the_wanted_patches_only():
    decoder, lengths = _decoder(depth=2), []
    for layer in decoder.layers:
        layer.ln2.register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    features = ImageFeatures(cls=torch.randn(1, 8), patches=torch.randn(1, 2, 8))
    decoder(features, torch.tensor([[4, 1]]), torch.tensor([[3, 0, 5]]))
    assert lengths == [1 + 6, 3]


@pytest.mark.parametrize('queries', [None, torch.tensor([[3, 0, 5], [2, 4, 1]])])
def test_shared_keys_give_the_same_prediction_and_gradients(queries):
    plain, shared = _decoder().double(), _decoder(shared_keys=True).double()
    shared.load_state_dict(plain.state_dict())
    visible, weights = torch.tensor([[4, 1], [0, 5]]), torch.randn(8, dtype=torch.double)
    results = []
    for decoder in (plain, shared):
        torch.manual_seed(0)
        cls, patches = (torch.randn(size, dtype=torch.double, requires_grad=True) for size in ((2, 8), (2, 2, 8)))
        predicted = decoder(ImageFeatures(cls=cls, patches=patches), visible, queries)
        (predicted @ weights).square().sum().backward()
        results.append([predicted, cls.grad, patches.grad, *(p.grad for p in decoder.parameters())])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-10)


def test_shared_keys_are_computed_for_seen_tokens_and_once_for_hidden_ones():
    decoder, rows = _decoder(shared_keys=True), []
    decoder.layers[0].attn.qkv.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[:2]))
    features = ImageFeatures(cls=torch.randn(3, 8), patches=torch.randn(3, 2, 8))
    decoder(features, torch.tensor([[4, 1], [0, 5], [2, 3]]))
    assert sorted(rows) == [(1, 6), (3, 3)]


def test_shared_keys_of_two_blocks_are_refused():
    with pytest.raises(ValueError, match='shared_keys=True with depth=2: only the first block'):
        _decoder(depth=2, shared_keys=True)
