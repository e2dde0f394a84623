"""The zero-shot segmentation head and segmentor against NumPy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmmaskclip.models.open_vocabulary import encode_classes
from mmmaskclip.models.open_vocabulary.dense_similarity import upsample_patches
from mmmaskclip.models.open_vocabulary.pamr import pamr
from mmmaskclip.models.open_vocabulary.segmentation_head import ZeroShotSegHead
from mmmaskclip.models.open_vocabulary.segmentor import ZeroShotSegmentor
from mmmaskclip.registry import MODELS

CLASSES = ['sky', ['tree', 'bush'], 'road']
TOWER = dict(
    type='CLIPVisionTransformer',
    arch=dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64),
    patch_size=8,
    img_size=32,
)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    built = MODELS.build(
        dict(
            type='ImageTextPretrainer',
            data_preprocessor=dict(type='ImageTextPreprocessor', mean=[100.0, 110, 120], std=[50.0, 60, 70]),
            image_encoder=TOWER,
            image_projection=dict(type='ImageProjectionHead', in_channels=32, embed_dims=16),
            text_encoder=dict(type='CLIPTextTransformer', width=16, num_layers=1, num_heads=2),
            text_projection=dict(type='TextProjectionHead', in_channels=16, embed_dims=16),
            objectives=dict(contrast=dict(type='ImageTextContrast')),
        )
    )
    built.init_weights()
    return built.eval()


def make_segmentor(model, **kwargs):
    return ZeroShotSegmentor(model, **{'classes': CLASSES, 'templates': ['a {}', '{} here'], **kwargs})


@torch.no_grad()
@pytest.mark.parametrize('options', [{}, dict(background_threshold=0.4, probability_offset=0.0), dict(stitched=True)])
def test_several_read_outs_give_the_mean_of_their_similarities(model, options):
    """Of cosines, before probabilities are made of them; in whole images, windows, and stitched windows."""
    if 'stitched' in options:
        options = dict(options, test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16)))
    images, metas = torch.randn(1, 3, 32, 48), [dict(img_shape=(32, 48), ori_shape=(32, 48))]
    several = make_segmentor(model, read_out=[dict(name='patch', weight=3), dict(name='naclip', std=2)], **options)
    found = several.inference(images, metas)
    plain = {key: value for key, value in options.items() if 'background' not in key and 'probability' not in key}
    one, other = (
        make_segmentor(model, read_out=part, **plain).inference(images, metas)
        for part in ('patch', dict(name='naclip', std=2))
    )
    expected = 0.75 * one + 0.25 * other
    if 'background_threshold' not in options:
        torch.testing.assert_close(found, expected)
    else:  # the sigmoid stands before patches are brought to pixels
        embeds = several.extract_feat(images)[0]
        parts = [model.encode_dense(images, part) for part in ('patch', dict(name='naclip', std=2))]
        torch.testing.assert_close(embeds, 0.75 * parts[0] + 0.25 * parts[1])
    with pytest.raises(ValueError, match="read_out='key': choose one of"):
        make_segmentor(model, read_out=['patch', 'key'])


def make_head(threshold=None):
    return ZeroShotSegHead(F.normalize(torch.randn(3, 4), dim=-1), threshold)


def numpy_cosines(head, embeds):
    return np.einsum('bdhw,kd->bkhw', embeds.numpy(), head.class_embeds.numpy())


def test_head_gives_cosines():
    head, embeds = make_head(), F.normalize(torch.randn(2, 4, 3, 5), dim=1)
    np.testing.assert_allclose(head((torch.zeros(1), embeds)).numpy(), numpy_cosines(head, embeds), atol=1e-6)


def test_background_is_where_no_class_is_probable():
    head, embeds = make_head(0.6), F.normalize(torch.randn(2, 4, 3, 5), dim=1)
    found = head((embeds,)).numpy()
    # TCL's, models/tcl/tcl.py.
    probabilities = 1 / (1 + np.exp(-10 * (numpy_cosines(head, embeds) - 0.25)))
    np.testing.assert_allclose(found[:, 1:], probabilities, atol=1e-5)
    expected = np.where(probabilities.max(1) > 0.6, probabilities.argmax(1) + 1, 0)
    assert (found.argmax(1) == expected).all()
    assert 0 < (expected == 0).mean() < 1
    assert head.num_classes == head.out_channels == 4


def test_number_of_classes_does_not_make_background():
    # A CLIP's cosines: 0.3 with what is there, 0.2 with all else, of which there is much.
    embeds = torch.zeros(60, 64)
    embeds[:, 0], embeds[0, 0] = 0.2, 0.3
    embeds[torch.arange(60), torch.arange(1, 61)] = (1 - embeds[:, 0] ** 2).sqrt()
    head = ZeroShotSegHead(embeds, background_threshold=0.5)
    assert head((torch.eye(64)[0].view(1, 64, 1, 1),)).argmax(1).item() == 1
    steep = ZeroShotSegHead(embeds, 0.5, probability_scale=40.0, probability_offset=0.31)
    assert steep((torch.eye(64)[0].view(1, 64, 1, 1),)).argmax(1).item() == 0


@pytest.mark.parametrize('threshold', [0.0, 1.0, 40.0])
def test_threshold_is_a_probability(threshold):
    with pytest.raises(ValueError, match='choose one between 0 and 1'):
        make_head(threshold)


def test_unknown_read_out_is_named(model):
    with pytest.raises(ValueError, match="read_out='key': choose one of patch, value"):
        make_segmentor(model, read_out='key')
    with pytest.raises(ValueError, match="read_out='key'"):
        model.encode_dense(torch.zeros(1, 3, 32, 32), 'key')


@pytest.mark.parametrize('read_out', ['patch', 'value'])
def test_segmentor_compares_patches_with_class_names(model, read_out):
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad():
        logits = make_segmentor(model, read_out=read_out).encode_decode(images, [])
        classes = encode_classes(model, CLASSES, ['a {}', '{} here'])
        cosines = torch.einsum('bdhw,kd->bkhw', model.encode_dense(images, read_out), classes)
    torch.testing.assert_close(logits, F.interpolate(cosines, scale_factor=8, mode='bilinear'))


def test_padding_is_cut_off(model):
    image = torch.randn(1, 3, 29, 45)
    segmentor = make_segmentor(model)
    with torch.no_grad():
        found = segmentor.encode_decode(image, [])
        whole = segmentor.encode_decode(F.pad(image, (0, 3, 0, 3)), [])
    assert found.shape[2:] == (29, 45)
    torch.testing.assert_close(found, whole[..., :29, :45])


def test_upsampling_leaves_the_padding_out():
    values = torch.arange(4.0).view(1, 1, 1, 4)
    # A mask of twice the image's size: patches of 16 pixels, of which the last has 10.
    found = upsample_patches(values, (16, 58), (1.0, 29 / 32))
    torch.testing.assert_close(found, F.interpolate(values, (16, 64), mode='bilinear')[..., :58])


def test_sliding_averages_the_windows(model):
    slide = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    segmentor = make_segmentor(model, test_cfg=slide)
    image = torch.randn(1, 3, 32, 56)
    with torch.no_grad():
        found = segmentor.inference(image, [dict(ori_shape=(32, 56))])[0].numpy()
        total, count = np.zeros((3, 32, 56)), np.zeros((32, 56))
        for left in (0, 16, 24):
            window = image[..., left : left + 32]
            total[..., left : left + 32] += segmentor.encode_decode(window, [])[0].numpy()
            count[:, left : left + 32] += 1
    np.testing.assert_allclose(found, total / count, atol=1e-6)


@pytest.mark.parametrize('size', [(32, 32), (24, 32), (21, 17)], ids=['one window', 'smaller', 'smaller and uneven'])
def test_sliding_in_one_window_is_whole(model, size):
    image, meta = torch.randn(1, 3, *size), [dict(ori_shape=size)]
    with torch.no_grad():
        whole = make_segmentor(model).inference(image, meta)
        slide = make_segmentor(model, test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16)))
        torch.testing.assert_close(slide.inference(image, [dict(meta[0])]), whole)


def test_refinement_is_of_the_whole_image(model):
    slide = dict(mode='slide', crop_size=(32, 32), stride=(16, 16))
    image, meta = torch.randn(1, 3, 32, 56), [dict(ori_shape=(32, 56))]
    with torch.no_grad():
        plain = make_segmentor(model, test_cfg=slide).inference(image, meta)
        refined = make_segmentor(model, test_cfg=slide, refinement=dict(iterations=2)).inference(image, meta)
    torch.testing.assert_close(refined, pamr(image, plain, 2))


def test_images_are_normalized_as_in_pretraining(model):
    bgr = torch.randint(256, (3, 32, 32), dtype=torch.uint8)
    found = make_segmentor(model).data_preprocessor({'inputs': [bgr]})['inputs']
    expected = model.data_preprocessor({'image': bgr.flip(0)[None]})['image']
    torch.testing.assert_close(found, expected)


def test_background_has_no_text(model):
    assert make_segmentor(model).num_classes == 3
    with_name = make_segmentor(model, classes=['background', *CLASSES], background_threshold=0.5)
    without = make_segmentor(model, background_threshold=0.5)
    assert with_name.num_classes == without.num_classes == 4
    torch.testing.assert_close(with_name.decode_head.class_embeds, without.decode_head.class_embeds)
    with pytest.raises(ValueError, match="'background' is among the classes, but no text describes it"):
        make_segmentor(model, classes=['background', *CLASSES])
    with pytest.raises(ValueError, match="'background' is among the classes"):
        make_segmentor(model, classes=[*CLASSES, 'background'], background_threshold=0.5)


def test_words_are_queries_and_the_best_speaks_for_its_class(model):
    queries = dict(scale=30.0, threshold=0.3, background=['grass', 'wall'])
    segmentor = make_segmentor(model, queries=queries)
    assert segmentor.num_classes == 4
    words = ['grass', 'wall', 'sky', 'tree', 'bush', 'road']
    assert segmentor.queries.words == words
    embeds = encode_classes(model, [[word] for word in words], ['a {}', '{} here'])
    torch.testing.assert_close(segmentor.decode_head.class_embeds, embeds)
    cosines = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0)) / 30
    scores = np.exp(30 * cosines.numpy())
    scores /= scores.sum(0)
    of_class = np.stack([scores[:2].max(0), scores[2], scores[3:5].max(0), scores[5]])
    expected = np.where(of_class.max(0) < 0.3, 0, of_class.argmax(0))
    found = segmentor.postprocess_result(cosines[None])[0].pred_sem_seg.data
    assert (found.numpy() == expected).all()
    assert (of_class.argmax(0) != expected).any()
    without = make_segmentor(model, queries=dict())
    assert (without.num_classes, without.out_channels) == (3, 4)


def test_classes_of_a_small_share_of_the_foreground_are_removed(model):
    """SCLIP's, in NumPy: what is no more than the share of all pixels that are not background is no candidate."""
    options = dict(scale=30.0, threshold=0.3, background=['grass', 'wall'])
    segmentor = make_segmentor(model, queries=dict(options, min_area=0.35))
    cosines = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0)) / 30
    scores = np.exp(30 * cosines.numpy())
    scores /= scores.sum(0)
    of_class = np.stack([scores[:2].max(0), scores[2], scores[3:5].max(0), scores[5]])
    best = of_class.argmax(0)
    areas = [(best == index).sum() for index in (1, 2, 3)]
    removed = [index for index, area in zip((1, 2, 3), areas, strict=True) if area <= 0.35 * sum(areas)]
    assert 0 < len(removed) < 3
    of_class[removed] = 0
    expected = np.where(of_class.max(0) < 0.3, 0, of_class.argmax(0))
    found = segmentor.postprocess_result(cosines[None])[0].pred_sem_seg.data
    assert (found.numpy() == expected).all()
    whole = make_segmentor(model, queries=options).postprocess_result(cosines[None])[0].pred_sem_seg.data
    assert (whole != found).any()
    for wrong in (dict(min_area=0.1), dict(min_area=1.0, threshold=0.1), dict(min_area=-0.1, threshold=0.1)):
        with pytest.raises(ValueError, match=r'queries\.min_area=\S+ with queries\.threshold='):
            make_segmentor(model, queries=wrong)


def test_softmax_of_each_window_is_averaged(model):
    options = dict(test_cfg=dict(mode='slide', crop_size=(16, 16), stride=(8, 8)))
    plain, soft = make_segmentor(model, **options), make_segmentor(model, window_softmax=7.0, **options)
    images = torch.randn(1, 3, 16, 24)
    metas = [dict(img_shape=(16, 24), ori_shape=(16, 24))]
    windows = [F.softmax(7 * plain.encode_decode(images[..., x : x + 16], metas), dim=1) for x in (0, 8)]
    expected = torch.cat(
        (windows[0][..., :8], (windows[0][..., 8:] + windows[1][..., :8]) / 2, windows[1][..., 8:]), -1
    )
    torch.testing.assert_close(soft.inference(images, metas), expected)


@pytest.mark.parametrize('options', [dict(queries=dict()), dict(window_softmax=1.0)])
def test_thresholds_exclude_each_other(model, options):
    with pytest.raises(ValueError, match='background_threshold=0.5 is for cosines of classes'):
        make_segmentor(model, background_threshold=0.5, **options)
    with pytest.raises(ValueError, match=r'queries.background has 1 words, but there is no queries.threshold'):
        make_segmentor(model, queries=dict(background=['wall']))
    with pytest.raises(ValueError, match=r'queries.threshold=2: it is compared'):
        make_segmentor(model, queries=dict(threshold=2))


def test_windows_are_stitched(model):
    """The windows are mmseg's, and `value`, whose tokens see themselves alone, is not changed by the others."""
    options = dict(test_cfg=dict(mode='slide', crop_size=(16, 16), stride=(8, 8)))
    images, metas = torch.randn(2, 3, 20, 37), [dict(img_shape=(20, 37), ori_shape=(20, 37))] * 2
    for read_out, same in (('value', True), ('kk', False)):
        plain = make_segmentor(model, read_out=read_out, **options).inference(images, metas)
        found = make_segmentor(model, read_out=read_out, stitched=True, **options).inference(images, metas)
        assert found.shape == plain.shape == (2, 3, 20, 37)
        assert torch.allclose(found, plain, atol=1e-5) == same
    # One window: there is nothing to stitch.
    small, metas = images[..., :16, :16], [dict(img_shape=(16, 16), ori_shape=(16, 16))] * 2
    pair = [make_segmentor(model, read_out='kk', stitched=stitched, **options) for stitched in (False, True)]
    torch.testing.assert_close(pair[0].inference(small, metas), pair[1].inference(small, metas), rtol=0, atol=1e-5)
