import pytest
import torch

from mmmaskclip.models.backbones import LocalVisionTransformer
from mmmaskclip.models.backbones.local_vision_transformer import ConvStem

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)


def tower(**kwargs) -> LocalVisionTransformer:
    torch.manual_seed(0)
    built = LocalVisionTransformer(**(dict(arch=dict(ARCH), patch_size=8, img_size=40) | kwargs))
    built.init_weights()
    return built.eval()


def sources(output: torch.Tensor, inputs: torch.Tensor) -> set[int]:
    """Which rows (dimension 1) of the inputs an output depends on."""
    # One channel: the sum over the channels of a layer norm is constant.
    (gradient,) = torch.autograd.grad(output[..., 0].sum(), inputs, retain_graph=True)
    return set(gradient[0].flatten(1).abs().sum(1).nonzero().flatten().tolist())


def test_a_patch_attends_to_its_neighbours_and_the_class_token_to_all():
    model = tower(neighbourhood=3)
    tokens = torch.randn(1, 25, 16, requires_grad=True)  # 5 x 5 patches
    features = model.encode(tokens)
    assert sources(features.patches[:, 12], tokens) == {6, 7, 8, 11, 12, 13, 16, 17, 18}
    assert sources(features.patches[:, 0], tokens) == {0, 1, 5, 6}
    assert sources(features.cls, tokens) == set(range(25))


def test_neighbours_are_those_of_the_image_where_few_patches_are_visible():
    model = tower(neighbourhood=3)
    tokens = torch.randn(1, 25, 16, requires_grad=True)
    visible = torch.tensor([[12, 0, 13, 24, 7]])
    features = model.encode(tokens, visible)
    assert sources(features.patches[:, 0], tokens) == {12, 13, 7}
    assert sources(features.patches[:, 1], tokens) == {0}
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0)).unsqueeze(0)
    whole, shuffled = model.encode(tokens), model.encode(tokens, order)
    torch.testing.assert_close(shuffled.patches, whole.patches[:, order[0]])
    torch.testing.assert_close(shuffled.cls, whole.cls)


def test_a_neighbourhood_of_the_whole_image_is_the_plain_tower_but_for_the_class_token():
    plain, local = tower(), tower(neighbourhood=9)
    tokens = torch.randn(2, 25, 16)
    # The class token alone sees itself, so it alone is equal after one block.
    torch.testing.assert_close(local.encode(tokens).cls, plain.encode(tokens).cls)
    assert local.state_dict().keys() == plain.state_dict().keys()


def test_images_that_are_not_square_are_refused_by_name():
    with pytest.raises(ValueError, match='neighbourhood=3 needs square images'):
        tower(neighbourhood=3).features(torch.randn(1, 3, 40, 24))


@pytest.mark.parametrize(('kernels', 'reach'), [((2, 2, 2), 0), ((4, 2, 2), 1)])
def test_a_patch_of_the_stem_sees_itself_and_a_pixel_around_it(kernels, reach):
    stem = ConvStem(16, channels=(4, 8, 8), kernels=kernels)
    images = torch.randn(1, 3, 40, 40, requires_grad=True)
    patches, grid = stem(images)
    assert patches.shape == (1, 25, 16)
    assert grid == (5, 5)
    (gradient,) = torch.autograd.grad(patches[0, 12].sum(), images)
    rows, columns = gradient[0].abs().sum(0).nonzero().t()
    for axis in (rows, columns):
        assert (axis.min().item(), axis.max().item()) == (16 - reach, 23 + reach)


def test_a_side_that_is_no_multiple_is_filled_up():
    model = tower(stem=dict(channels=(4, 8, 8), kernels=(2, 2, 2)))
    patches, grid = model.dense(torch.randn(2, 3, 30, 17))
    assert grid == (4, 3)
    assert patches.shape == (2, 12, 16)
    assert model.unpadded_fraction((30, 17)) == (30 / 32, 17 / 24)


@pytest.mark.parametrize(
    ('options', 'error'),
    [
        (dict(neighbourhood=2), 'odd number'),
        (dict(neighbourhood=3, window_size=2, global_blocks=(0,)), 'choose one'),
        (dict(stem=dict(channels=(4, 8), kernels=(2, 2))), 'patches of 4 pixels, but patch_size is 8'),
        (dict(stem=dict(channels=(4, 8, 8), kernels=(3, 2, 2))), '2 or 4'),
        (dict(stem=dict(channels=(4, 8, 8), kernels=(2, 2))), 'one kernel'),
    ],
)
def test_mistakes_are_named(options, error):
    with pytest.raises(ValueError, match=error):
        tower(**options)


def test_every_read_out_keeps_to_the_neighbourhood():
    model = tower(neighbourhood=3)
    images = torch.randn(1, 3, 40, 40, requires_grad=True)
    for read_out in ('patch', 'value'):
        patches, _ = model.dense(images, read_out)
        (gradient,) = torch.autograd.grad(patches[0, 0, 0], images)
        seen = gradient[0].abs().sum(0).nonzero()
        assert seen.max() < 16, read_out
