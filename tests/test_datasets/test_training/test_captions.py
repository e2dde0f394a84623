import json

import pytest

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.captions import CaptionReader, choose_caption


def test_text_and_json():
    fields = {'caption': 'a cat', 'captions': ['a', 'b', 'a', None, '']}
    files = {'txt': b' a  dog\n', 'json': json.dumps(fields).encode()}
    assert CaptionReader('txt')(files) == ['a dog']
    assert CaptionReader('json:caption')(files) == ['a cat']
    assert CaptionReader('json:captions')(files) == ['a', 'b']
    assert CaptionReader(['txt', 'json:captions'])(files) == ['a dog', 'a', 'b']


@pytest.mark.parametrize(
    ('files', 'cause'),
    [
        ({'jpg': b''}, 'missing_caption'),
        ({'json': b'{"other": 1}'}, 'missing_caption'),
        ({'json': b'[]'}, 'missing_caption'),
        ({'json': b'{"captions": ["", " "]}'}, 'empty_caption'),
        ({'json': b'{"captions": NaN}'}, 'empty_caption'),
        ({'json': b'{"captions": null}'}, 'empty_caption'),
        ({'json': b'{"captions": '}, 'broken_json'),
        ({'json': b'\xff\xfe\x00'}, 'broken_json'),
    ],
)
def test_bad_captions(files, cause):
    with pytest.raises(BadSample) as caught:
        CaptionReader('json:captions')(files)
    assert caught.value.cause == cause


def test_evaluation_takes_every_caption_as_it_is_and_no_blank_one():
    reader = CaptionReader('json:captions')
    assert reader.every({'json': b'{"captions": ["a  cat", "b", "a cat"]}'}) == ['a cat', 'b', 'a cat']
    for blank in ('" "', 'null', '3'):
        with pytest.raises(BadSample, match='empty_caption: caption 2 of 3 is'):
            reader.every({'json': b'{"captions": ["a", %s, "b"]}' % blank.encode()})
    with pytest.raises(BadSample, match='missing_caption'):
        reader.every({'json': b'{"captions": []}'})


def test_bytes_that_are_no_utf8_are_replaced():
    assert CaptionReader('txt')({'txt': b'caf\xe9'}) == ['caf\ufffd']


def test_every_caption_is_chosen_equally_often():
    captions = ['a', 'b', 'c']
    chosen = [choose_caption(captions, seed) for seed in range(3000)]
    assert all(abs(chosen.count(caption) - 1000) < 100 for caption in captions)
    assert chosen[:50] == [choose_caption(captions, seed) for seed in range(50)]
