import torch

from mmmaskclip.models.backbones import ImageFeatures
from mmmaskclip.models.necks import MaskedTokenDecoder


def _decoder(depth=1):
    decoder = MaskedTokenDecoder(width=8, num_patches=6, num_heads=2, depth=depth)
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
