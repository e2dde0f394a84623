"""Maps, segmentation, components and likeness of a scene, under a model that knows colours."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.datasets.scenes.generator import object_mask
from mmmaskclip.demo import pictures, seen_models
from mmmaskclip.demo.photos import Photo, Refused
from mmmaskclip.demo.pictures import likeness, principal_components
from mmmaskclip.demo.settings import Settings
from mmmaskclip.demo.views import segment, view_pairs, view_patch, view_words


def decode(url):
    return Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2])))


def colours_of(scene):
    return [thing.colour for thing in scene.objects]


def test_the_hottest_place_of_a_word_lies_on_its_object(photo, scene, model):
    (view,) = view_words(photo, [model], colours_of(scene), Settings())
    for thing, drawn in zip(scene.objects, view['maps'], strict=True):
        mask = object_mask(thing, 320)
        across, down = drawn['peak']
        assert mask[int(down * 320), int(across * 320)], thing
        levels = np.asarray(decode(drawn['url']))  # the palette's numbers
        assert levels.shape == (384, 384)
        row, column = np.unravel_index(levels.argmax(), levels.shape)
        assert mask[row * 320 // 384, column * 320 // 384], thing


def test_all_words_of_a_model_share_one_scale(photo, scene, model):
    (view,) = view_words(photo, [model], colours_of(scene), Settings())
    maps = model.maps(photo, colours_of(scene), Settings())
    assert view['low'] == pytest.approx(min(drawn['low'] for drawn in view['maps']))
    assert view['high'] == pytest.approx(max(drawn['high'] for drawn in view['maps']))
    assert view['high'] == pytest.approx(maps.max(), abs=0.01)
    drawn = np.asarray(decode(view['maps'][0]['url']))
    level = (view['maps'][0]['high'] - view['low']) / (view['high'] - view['low'])
    assert drawn.max() == round(255 * level)


def test_maps_are_those_of_the_inferencer(photo, model):
    maps = pictures.enlarge(model.maps(photo, ['red', 'green'], Settings()), (320, 320))
    expected = model.inferencer.similarity_maps(photo.image, ['red', 'green'])
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_features_and_words_are_computed_once(photo, monkeypatch, model):
    calls = []
    dense, embed = model.inferencer.dense_features, model.inferencer.embed_texts
    monkeypatch.setattr(model.inferencer, 'dense_features', lambda *args: [calls.append('photo'), dense(*args)][1])
    monkeypatch.setattr(
        model.inferencer, 'embed_texts', lambda *args, **options: [calls.append('word'), embed(*args, **options)][1]
    )
    fresh = seen_models.SeenModel('fresh', model.inferencer)
    for words in (['red'], ['red', 'blue'], ['blue']):
        view_words(photo, [fresh], words, Settings())
    assert sorted(calls) == ['photo', 'word', 'word']


def test_segmentation_gives_each_pixel_its_best_word_or_the_background(photo, scene, model):
    maps = np.array([[[0.0, 0.4]], [[0.1, 1.0]]])
    assert segment(maps, Settings()).tolist() == [[1, 1]]
    assert segment(maps, Settings(background=0.5)).tolist() == [[-1, 1]]
    (view,) = view_words(photo, [model], colours_of(scene), Settings(background=0.7))
    drawn = np.asarray(decode(view['segmentation']['url']))
    legend = view['segmentation']['legend']
    assert sum(entry['share'] for entry in legend) < 0.6
    for thing, entry in zip(scene.objects, legend, strict=True):
        pixel = drawn[int(thing.y * 384), int(thing.x * 384)]
        assert '#{:02x}{:02x}{:02x}'.format(*pixel[:3]) == entry['colour']
        assert pixel[3] == 255
    assert drawn[2, 2, 3] == 0


def test_components_are_the_singular_vectors_of_the_patches():
    features = np.random.default_rng(0).normal(size=(5, 4, 6)) * np.array([5, 3, 2, 1, 1])[:, None, None]
    components, shares = principal_components(features)
    patches = features.reshape(5, -1).T
    covariance = np.cov(patches.T)
    values, vectors = np.linalg.eigh(covariance)
    np.testing.assert_allclose(shares, (values / values.sum())[::-1][:3], atol=1e-6)
    projected = (patches - patches.mean(0)) @ vectors[:, -1]
    assert abs(np.corrcoef(projected, components[0].ravel())[0, 1]) > 0.99
    assert components.min() == 0
    assert components.max() == 1
    flat, none = principal_components(np.ones((5, 1, 1)))
    assert (flat == 0.5).all()
    assert (none == 0).all()


def test_a_click_shows_what_resembles_the_patch(photo, scene, model):
    red = next(thing for thing in scene.objects if thing.colour == 'red')
    (view,) = view_patch(photo, [model], Settings(), (red.x, red.y))
    assert view['cell'] == [int(red.y * 8), int(red.x * 8)]
    assert view['high'] == pytest.approx(1.0, abs=1e-5)
    levels = np.asarray(decode(view['url']))
    others = [thing for thing in scene.objects if thing.colour != 'red']
    assert all(levels[int(384 * red.y), int(384 * red.x)] > levels[int(384 * t.y), int(384 * t.x)] for t in others)
    with pytest.raises(Refused, match='outside of the photo'):
        view_patch(photo, [model], Settings(), (1.2, 0.5))


def test_the_likeness_of_all_pairs_is_a_picture(photo, model):
    pairs = view_pairs(photo, model, Settings())
    values = likeness(model.features(photo, Settings()))
    assert values.shape == (64, 64)
    read = pairs['low'] + np.asarray(decode(pairs['url'])) / 255 * (pairs['high'] - pairs['low'])
    np.testing.assert_allclose(read, values, atol=0.01)
    assert view_pairs(photo, model, Settings(size=400)) is None


def test_what_one_model_cannot_show_is_said_beside_the_other(photo, model):
    class Blind(torch.nn.Module):
        image_encoder, data_preprocessor = (
            model.inferencer.model.image_encoder,
            model.inferencer.model.data_preprocessor,
        )

    blind = seen_models.SeenModel('blind', ImageTextInferencer(Blind(), device='cpu'))
    views = view_words(photo, [model, blind], ['red'], Settings())
    assert len(views[0]['maps']) == 1
    assert views[1]['name'] == 'blind'
    assert 'blind gives no vectors of patches this way' in views[1]['problem']
    (view,) = view_words(Photo('wide', Image.new('RGB', (1200, 100))), [model], ['red'], Settings(size=512))
    assert 'would look at 49,152 patches, more than 4,096' in view['problem']


def test_the_fingerprint_follows_the_weights(model):
    before = model.fingerprint()
    again = seen_models.SeenModel('again', model.inferencer)
    assert again.fingerprint() == before
    with torch.no_grad():
        model.inferencer.model.weight += 1
    assert seen_models.SeenModel('moved', model.inferencer).fingerprint() != before
    with torch.no_grad():
        model.inferencer.model.weight -= 1
