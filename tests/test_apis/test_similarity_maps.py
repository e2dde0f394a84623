"""Similarity maps, segmentation and dense features of the inferencer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as TF


def test_similarity_maps_are_patch_similarities_upsampled(inferencer, images):
    image = images[0]
    maps = inferencer.similarity_maps(image, ['cat', 'dog'])
    assert maps.shape == (2, 32, 32)
    pixels = (torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() - 120) / 60
    with torch.no_grad():
        patches = inferencer.model.encode_dense(pixels)[0]
    word = inferencer.embed_texts(['dog'])[0]
    coarse = (patches * word[:, None, None]).sum(0)
    # In the corners, upsampling has nothing to mix a patch's value with.
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(maps[1, row, column], coarse[row, column])
    assert maps[1].min() >= coarse.min() - 1e-6


def test_similarity_maps_of_any_size_and_aspect_ratio(inferencer, images):
    wide = images[0].resize((75, 40))
    assert inferencer.similarity_maps(wide, ['cat']).shape == (1, 40, 75)
    finer = inferencer.similarity_maps(wide, ['cat'], size=64)
    assert finer.shape == (1, 40, 75)
    assert not torch.allclose(finer, inferencer.similarity_maps(wide, ['cat']))


def test_similarity_maps_see_whole_patches_only(inferencer, images, monkeypatch):
    seen = []
    encode_dense = inferencer.model.encode_dense
    monkeypatch.setattr(
        inferencer.model,
        'encode_dense',
        lambda pixels, *rest: (seen.append(tuple(pixels.shape[2:])), encode_dense(pixels, *rest))[1],
    )
    inferencer.similarity_maps(images[0].resize((75, 40)), ['cat'])
    # 75 / 40 of the shorter side would end inside of a patch, which the tower pads.
    assert all(side % inferencer.patch_size == 0 for side in seen[0])
    assert seen[0][1] / seen[0][0] == pytest.approx(75 / 40, rel=0.1)


def test_values_of_the_last_block_can_stand_for_a_place(inferencer, images):
    pixels = (torch.from_numpy(np.array(images[0])).permute(2, 0, 1)[None].float() - 120) / 60
    with torch.no_grad():
        corner = inferencer.model.encode_dense(pixels, 'value')[0, :, 0, 0]
    found = inferencer.similarity_maps(images[0], ['dog'], read_out='value')
    torch.testing.assert_close(found[0, 0, 0], corner @ inferencer.embed_texts(['dog'])[0])
    assert not torch.allclose(found, inferencer.similarity_maps(images[0], ['dog']))
    with pytest.raises(ValueError, match="read_out='key'"):
        inferencer.similarity_maps(images[0], ['dog'], read_out='key')


# The last one is lower than a window.
@pytest.mark.parametrize(
    ('width', 'size', 'seen'), [(75, None, (32, 64)), (75, 41, (40, 80)), (35, 80, (88, 80)), (160, 16, (16, 64))]
)
def test_sliding_maps_equal_mmsegs_sliding_inference(inferencer, images, width, size, seen):
    from mmseg.models import EncoderDecoder

    image = images[0].resize((width, 40))
    pixels = TF.resize(TF.pil_to_tensor(image), seen)[None]
    words = inferencer.embed_texts(['cat', 'dog'])

    def encode_decode(crop, metas):
        with torch.no_grad():
            patches = inferencer.model.encode_dense((crop - 120) / 60)
        scores = torch.stack([(patches * word[:, None, None]).sum(1) for word in words], dim=1)
        return F.interpolate(scores, size=crop.shape[2:], mode='bilinear')

    segmentor = SimpleNamespace(
        test_cfg=SimpleNamespace(stride=(16, 16), crop_size=(32, 32)), out_channels=2, encode_decode=encode_decode
    )
    expected = EncoderDecoder.slide_inference(segmentor, pixels.float(), [{}])
    expected = F.interpolate(expected, size=(40, width), mode='bilinear')[0]
    found = inferencer.similarity_maps(image, ['cat', 'dog'], size, mode='sliding')
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_one_window_sees_what_the_whole_image_does(inferencer, images):
    whole = inferencer.similarity_maps(images[0].resize((50, 50)), ['cat'])
    assert torch.equal(inferencer.similarity_maps(images[0].resize((50, 50)), ['cat'], mode='sliding'), whole)


def test_every_pixel_gets_the_class_that_fits_best(inferencer, images):
    classes, templates = ['cat', ['dog', 'hound'], 'grass', 'sky'], ['a {}', 'one {}']
    wide = images[1].resize((75, 41))
    for mode in ('interpolate', 'sliding'):
        labels = inferencer.segment(wide, classes, templates, 48, mode)
        assert labels.shape == (41, 75)
        assert labels.dtype == torch.long
        prompts = [f'{article} {name}' for name in ('cat', 'dog', 'hound', 'grass', 'sky') for article in ('a', 'one')]
        maps = inferencer.similarity_maps(wide, prompts, 48, mode)
        groups = [maps[:2], maps[2:6], maps[6:8], maps[8:]]
        # The class's embedding is the normalized mean of its prompts', so its map is their mean over a constant.
        embeds = inferencer.embed_texts(prompts)
        norms = [part.mean(0).norm() for part in embeds.split([2, 4, 2, 2])]
        expected = torch.stack([group.mean(0) / norm for group, norm in zip(groups, norms, strict=True)])
        assert (labels == expected.argmax(0)).float().mean() > 0.999
        assert len(labels.unique()) > 1


def test_unknown_mode_is_an_error(inferencer, images):
    with pytest.raises(ValueError, match="mode='windows': choose 'interpolate' or 'sliding'"):
        inferencer.segment(images[0], ['cat', 'dog'], mode='windows')


@pytest.mark.parametrize('size', [None, 48])
def test_dense_features_give_the_similarity_maps(inferencer, images, size):
    image = images[0].resize((40, 32))
    features = inferencer.dense_features(image, size)
    torch.testing.assert_close(features.norm(dim=0), torch.ones(features.shape[1:]))
    maps = torch.einsum('dhw,td->thw', features, inferencer.embed_texts(['a cat', 'a dog']))
    expected = inferencer.similarity_maps(image, ['a cat', 'a dog'], size)
    torch.testing.assert_close(F.interpolate(maps[None], (32, 40), mode='bilinear')[0], expected)


def test_dense_features_of_windows_are_the_mean_of_the_windows_that_see_a_patch(inferencer):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8))
    features = inferencer.dense_features(image, mode='sliding')
    left, right = (inferencer.dense_features(image.crop((start, 0, start + 32, 32))) for start in (0, 16))
    expected = torch.cat((left[..., :2], (left[..., 2:] + right[..., :2]) / 2, right[..., 2:]), dim=-1)
    torch.testing.assert_close(features, expected)
    with pytest.raises(ValueError, match="mode='whole'"):
        inferencer.dense_features(image, mode='whole')


@pytest.mark.parametrize('size', [0, -5])
def test_size_must_be_positive(inferencer, images, size):
    with pytest.raises(ValueError, match=f'size={size}: give the shorter side in pixels'):
        inferencer.similarity_maps(images[0], ['cat'], size)
