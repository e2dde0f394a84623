"""The inferencer against the model's own methods, with a tiny random model."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from tiny_inferencer import CONFIG
from torchvision.transforms.v2 import functional as TF

import mmmaskclip
from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.apis.image_index import ImageIndex
from mmmaskclip.apis.images import open_image
from mmmaskclip.datasets.transforms.tokenize import pad_tokens, tokenize
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.progress import progress_bar


def encode(model, image):
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    with torch.no_grad():
        return model.encode_image((pixels - 120) / 60)[0]


def test_images_of_the_models_size_are_embedded_as_they_are(inferencer, images):
    found = inferencer.embed_images(images, batch_size=2)
    torch.testing.assert_close(found, torch.stack([encode(inferencer.model, image) for image in images]))
    assert not inferencer.model.training


def test_image_is_resized_by_its_shorter_side_and_cropped_in_the_middle(inferencer, images, tmp_path):
    wide = Image.new('RGB', (96, 32))
    wide.paste(images[0], (32, 0))
    wide.save(tmp_path / 'wide.png')
    found = inferencer.embed_images([tmp_path / 'wide.png'])
    torch.testing.assert_close(found[0], encode(inferencer.model, images[0]))


def test_texts(inferencer):
    texts = ['a cat', 'a very long caption about a dog']
    with torch.no_grad():
        expected = inferencer.model.encode_text(pad_tokens(tokenize(texts)))
    torch.testing.assert_close(inferencer.embed_texts(texts), expected)


def test_classify_gives_probabilities_under_the_temperature(inferencer, images):
    found = inferencer.classify(images, ['cat', ['dog', 'hound']], ['a {}'])
    classes = inferencer.embed_texts(['a cat', 'a dog', 'a hound'])
    dog = torch.nn.functional.normalize(classes[1:].mean(0), dim=0)
    scores = inferencer.embed_images(images) @ torch.stack([classes[0], dog]).T
    torch.testing.assert_close(found, (scores / 0.07).softmax(-1), atol=1e-5, rtol=1e-4)


def test_retrieve_gives_the_best_images_first(inferencer, images):
    indices, scores = inferencer.retrieve(['a cat', 'a dog'], images, topk=3)
    full = (inferencer.embed_texts(['a cat', 'a dog']) @ inferencer.embed_images(images).T).numpy()
    assert indices.tolist() == np.argsort(-full, axis=1)[:, :3].tolist()
    np.testing.assert_allclose(scores.numpy(), -np.sort(-full, axis=1)[:, :3], rtol=1e-5)
    assert inferencer.retrieve(['a cat'], images, topk=99)[0].shape == (1, 5)


def test_weights_from_a_checkpoint(inferencer, images, tmp_path):
    torch.save({'state_dict': inferencer.model.state_dict()}, tmp_path / 'model.pth')
    again = ImageTextInferencer(CONFIG, tmp_path / 'model.pth', device='cpu')
    assert torch.equal(again.embed_images(images), inferencer.embed_images(images))
    loaded = mmmaskclip.load(CONFIG, tmp_path / 'model.pth', device='cpu', numpy=True)
    assert (loaded.embed_images(images) == inferencer.embed_images(images).numpy()).all()
    other = ImageTextInferencer(MODELS.build(CONFIG.model), device='cpu')
    assert not torch.equal(other.embed_images(images), inferencer.embed_images(images))


ONE_STRING = {
    'embed_texts': lambda clip, image: clip.embed_texts('a dog'),
    'similarity_maps': lambda clip, image: clip.similarity_maps(image, 'dog'),
    'retrieve': lambda clip, image: clip.retrieve('a dog', [image]),
    'embed_images': lambda clip, image: clip.embed_images('/data/a.jpg'),
    'one image': lambda clip, image: clip.embed_images(image),
    'classify': lambda clip, image: clip.classify([image], 'dog'),
    'classify images': lambda clip, image: clip.classify('a.jpg', ['dog']),
    'segment': lambda clip, image: clip.segment(image, 'dog'),
    'templates': lambda clip, image: clip.segment(image, ['dog', 'cat'], 'a {}'),
    'numbers': lambda clip, image: clip.classify([image], [0, 1]),
}


@pytest.mark.parametrize('name', ONE_STRING)
def test_one_string_is_no_list(inferencer, images, name):
    with pytest.raises(TypeError, match=r'give a (list|name)'):
        ONE_STRING[name](inferencer, images[0])


def test_nothing_has_no_embedding(inferencer):
    assert inferencer.embed_texts([]).shape == inferencer.embed_images([]).shape == (0, 8)


@pytest.mark.parametrize('length', [8, 32, 248])
def test_texts_are_as_long_as_the_models(length):
    cfg = deepcopy(CONFIG)
    cfg.model.text_encoder.context_length = length
    clip = ImageTextInferencer(cfg, device='cpu')
    words = ' '.join(['dog'] * 90)
    one, two = clip.embed_texts([f'{words} one', f'{words} two'])
    # Only the long one sees the last word.
    assert torch.equal(one, two) == (length < 90)


def test_towers_that_are_not_square_see_their_own_size(images, monkeypatch):
    cfg = deepcopy(CONFIG)
    cfg.model.image_encoder.img_size = (32, 64)
    clip = ImageTextInferencer(cfg, device='cpu')
    seen, embed = [], clip.model.image_encoder.embed
    monkeypatch.setattr(
        clip.model.image_encoder, 'embed', lambda pixels: (seen.append(tuple(pixels.shape[2:])), embed(pixels))[1]
    )
    clip.embed_images([images[0]])
    wide = images[0].resize((200, 40))
    maps = clip.similarity_maps(wide, ['dog'], mode='sliding')
    assert maps.shape == (1, 40, 200)
    assert seen == [(32, 64)] * 2


def test_images_are_resized_as_the_weights_were_trained(images):
    cfg = deepcopy(CONFIG)
    cfg.model.data_preprocessor.interpolation = 'bicubic'
    clip = ImageTextInferencer(cfg, device='cpu')
    large = images[0].resize((100, 50))
    for size, expected in (('bicubic', True), ('bilinear', False)):
        other = encode(clip.model, TF.center_crop(TF.resize(large, [32], TF.InterpolationMode(size)), [32]))
        assert torch.allclose(clip.embed_images([large])[0], other, atol=1e-5) == expected


def test_arrays_and_bytes_are_images(inferencer, images, tmp_path):
    images[0].save(tmp_path / 'a.png')
    array = np.asarray(images[0])
    for image in (array, (tmp_path / 'a.png').read_bytes(), tmp_path / 'a.png', str(tmp_path / 'a.png')):
        assert torch.equal(inferencer.embed_images([image]), inferencer.embed_images([images[0]]))
    grey = inferencer.embed_images([array[..., 0], array[..., :1]])
    assert torch.equal(*grey)
    for wrong in (array.astype(np.float32), array.transpose(2, 0, 1), np.zeros((3, 3, 4), np.uint8)):
        with pytest.raises(ValueError, match='is no image: give uint8'):
            inferencer.embed_images([wrong])
    with pytest.raises(TypeError, match='not int'):
        open_image(3)
    with pytest.raises(ValueError, match='CMYK needs a colour profile'):
        open_image(Image.new('CMYK', (4, 4)))


def test_results_are_numpy_on_request(inferencer, images):
    clip = ImageTextInferencer(inferencer.model, device='cpu', numpy=True)
    results = [
        *(clip.embed_images(images), clip.embed_texts(['a']), clip.classify(images, ['cat', 'dog'])),
        *(*clip.retrieve(['cat'], images), clip.similarity_maps(images[0], ['a']), clip.segment(images[0], ['a', 'b'])),
    ]
    assert {type(result) for result in results} == {np.ndarray}
    np.testing.assert_array_equal(results[0], inferencer.embed_images(images).numpy())


def test_images_are_encoded_once(inferencer, images, monkeypatch):
    embeds = inferencer.embed_images(images)
    expected = inferencer.retrieve(['a cat'], images, 3)
    monkeypatch.setattr(inferencer.model, 'encode_image', None)
    for given in (embeds, embeds.numpy()):
        assert all(map(torch.equal, inferencer.retrieve(['a cat'], given, 3), expected))
    assert inferencer.classify(embeds, ['cat', 'dog']).shape == (5, 2)


@pytest.mark.parametrize('num_workers', [0, 2])
def test_a_folder_is_embedded_and_searched(inferencer, images, tmp_path, num_workers, monkeypatch):
    for index, image in enumerate(images):
        path = tmp_path / 'photos' / f'{index % 2}' / f'{index}.PNG'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    (tmp_path / 'photos/broken.jpg').write_bytes(b'<html>')
    (tmp_path / 'photos/notes.txt').write_text('no image')
    (tmp_path / 'photos/.hidden.png').write_bytes(b'')
    done, bars = [], []
    noted = 'mmmaskclip.apis.inferencer.progress_bar'
    monkeypatch.setattr(noted, lambda *given: bars.append(given) or progress_bar(*given))
    index = inferencer.embed_folder(
        tmp_path / 'photos', 2, num_workers, report=lambda *numbers: done.append(numbers), progress=False
    )
    assert done == [(2, 6), (4, 6), (6, 6)]
    assert bars == [('Embedding images', 6, False)]
    assert [str(tmp_path / 'photos' / name) for name in ('0/0.PNG', '0/2.PNG', '0/4.PNG', '1/1.PNG', '1/3.PNG')] == (
        index.paths
    )
    ((path, reason),) = index.bad.items()
    assert path.endswith('broken.jpg')
    assert 'not_an_image' in reason
    expected = inferencer.embed_images([images[i] for i in (0, 2, 4, 1, 3)])
    np.testing.assert_allclose(index.embeds, expected.numpy(), atol=1e-6)

    index.save(tmp_path / 'index.npz')
    again = ImageIndex.load(tmp_path / 'index.npz')
    assert (again.paths, len(again)) == (index.paths, 5)
    found = inferencer.search(again, 'a cat', topk=2)
    order, scores = inferencer.retrieve(['a cat'], expected, 2)
    assert [path for path, _ in found] == [index.paths[place] for place in order[0].tolist()]
    assert [score for _, score in found] == pytest.approx(scores[0].tolist(), abs=1e-5)
    several = inferencer.search(again, ['a cat', 'a dog'], topk=2)
    assert [path for path, _ in several[0]] == [path for path, _ in found]
    assert len(several) == 2
    best = inferencer.search(again, images[3], topk=1)
    assert best[0] == (str(tmp_path / 'photos/1/3.PNG'), pytest.approx(1.0, abs=1e-5))


def test_only_new_and_changed_files_of_a_known_folder_are_embedded(inferencer, images, tmp_path, monkeypatch):
    for name, image in zip('abc', images, strict=False):
        image.save(tmp_path / f'{name}.png')
    inferencer.embed_folder(tmp_path).save(tmp_path / 'index.npz')
    images[3].save(tmp_path / 'd.png')
    images[4].resize((16, 16)).save(tmp_path / 'b.png')
    (tmp_path / 'c.png').unlink()
    embedded = []
    embed = inferencer._embed
    monkeypatch.setattr(inferencer, '_embed', lambda paths, *rest: [embedded.extend(paths), *embed(paths, *rest)][1:])
    index = inferencer.embed_folder(tmp_path, known=ImageIndex.load(tmp_path / 'index.npz'))
    assert [path[-5:] for path in embedded] == ['b.png', 'd.png']
    assert [path[-5:] for path in index.paths] == ['a.png', 'b.png', 'd.png']
    monkeypatch.undo()
    np.testing.assert_allclose(index.embeds, inferencer.embed_images(index.paths).numpy(), atol=1e-6)


def test_folders_without_images_are_named(inferencer, tmp_path):
    with pytest.raises(NotADirectoryError, match='nowhere is no folder'):
        inferencer.embed_folder(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='holds no image'):
        inferencer.embed_folder(tmp_path)


def test_texts_are_computed_in_the_precision_of_images(inferencer, images, monkeypatch):
    low = ImageTextInferencer(deepcopy(inferencer.model), device='cpu', precision='bfloat16')
    seen, encode_text = [], low.model.encode_text
    index = ImageIndex(['a', 'b'], low.embed_images(images[:2]).numpy())

    def watched(tokens):
        seen.append(torch.is_autocast_enabled('cpu'))
        return encode_text(tokens)

    monkeypatch.setattr(low.model, 'encode_text', watched)
    low.embed_texts(['a cat'])
    low.search(index, ['a cat'])
    low.classify(images, ['cat', 'dog'])
    low.retrieve(['a cat'], images)
    low.similarity_maps(images[0], ['a cat'])
    low.segment(images[0], ['cat', 'dog'])
    assert len(seen) == 6
    assert all(seen)
    assert low.embed_texts(['a cat']).dtype == torch.float32


def test_bfloat16_on_request(inferencer, images):
    low = ImageTextInferencer(inferencer.model, device='cpu', precision='bfloat16')
    full, found = inferencer.embed_images(images), low.embed_images(images)
    assert found.dtype == torch.float32
    assert not torch.equal(found, full)
    torch.testing.assert_close(found, full, atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="precision='half'"):
        ImageTextInferencer(inferencer.model, precision='half')


def test_a_model_without_two_towers_is_named():
    with pytest.raises(TypeError, match='Linear has no image_encoder: give a model that is pretrained on images'):
        ImageTextInferencer(torch.nn.Linear(2, 2))


def test_another_kind_of_model_is_named_before_its_weights_are_made(capsys):
    with pytest.raises(TypeError, match='MAE has no image_encoder: give a model that is pretrained on images'):
        ImageTextInferencer(ROOT / 'configs/mae/vitt16_flickr8k.py')
    assert 'Initialized by' not in capsys.readouterr().out


@pytest.mark.parametrize(('device', 'message'), [('gpu', "choose 'cpu', 'cuda'"), ('cuda', 'sees no GPU')])
def test_a_device_that_is_not_there_is_named_before_anything_is_read(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(ValueError, match=f'device={device!r}.*{message}'):
        ImageTextInferencer('nowhere.pth', device=device)


def test_missing_image_is_named(inferencer):
    with pytest.raises(FileNotFoundError, match='there is no image nowhere.jpg'):
        inferencer.embed_images(['nowhere.jpg'])


def test_deep_and_broken_images_are_named(inferencer, tmp_path):
    deep = Image.fromarray(np.full((8, 8), 40000, np.uint16))
    deep.save(tmp_path / 'deep.png')
    (tmp_path / 'broken.jpg').write_bytes(b'<html>not found</html>')
    with pytest.raises(ValueError, match=r'deep\.png: unsupported_mode: PNG of mode I;16, 16 bit'):
        inferencer.embed_images([tmp_path / 'deep.png'])
    with pytest.raises(ValueError, match=r'broken\.jpg: not_an_image'):
        inferencer.similarity_maps(tmp_path / 'broken.jpg', ['cat'])
    for image in (deep, Image.fromarray(np.full((8, 8), 0.5, np.float32))):
        with pytest.raises(ValueError, match=f'an image of mode {image.mode} has no fixed range'):
            inferencer.embed_images([image])
