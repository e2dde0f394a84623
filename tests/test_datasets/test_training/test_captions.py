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
        ({'json': b'\xff\xfe\x00'}, 'not_utf8'),
        ({'json': b'[' * 100_000}, 'broken_json'),
        ({'json': b'{"captions": ["&nbsp;", "\\u200b", "\\u0000"]}'}, 'empty_caption'),
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


@pytest.mark.parametrize('blank', ['&nbsp;', '\ufeff', '\0\0', '\x1b[36m', ' \n', '&#160; &nbsp;', '\u200b'])
def test_what_is_blank_after_the_tokenizers_cleaning_is_empty(blank):
    files = {'txt': blank.encode(), 'json': json.dumps({'captions': [blank, 'a cat']}).encode()}
    with pytest.raises(BadSample, match='empty_caption'):
        CaptionReader('txt')(files)
    assert CaptionReader('json:captions')(files) == ['a cat']
    with pytest.raises(BadSample, match='empty_caption: caption 1 of 2'):
        CaptionReader('json:captions').every(files)


@pytest.mark.parametrize('text', ['a', '7', '&amp;', 'çà', '猫', '🐈', '?', 'R&D', '\x1b[36mcat'])
def test_what_has_something_to_see_is_no_blank(text):
    assert CaptionReader('txt')({'txt': text.encode()}) == [text]


def test_captions_that_are_no_utf8_are_counted_and_a_byte_order_mark_is_none_of_it():
    with pytest.raises(BadSample, match='not_utf8'):
        CaptionReader('txt')({'txt': 'café'.encode('latin-1')})
    assert CaptionReader('txt')({'txt': 'café'.encode('utf-8-sig')}) == ['café']


def test_several_captions_in_one_text_file():
    files = {'txt': b'one\ntwo\n\nthree\n'}
    assert CaptionReader('txt:lines')(files) == CaptionReader('txt:lines').every(files) == ['one', 'two', 'three']
    assert CaptionReader('txt')(files) == ['one two three']
    with pytest.raises(BadSample, match="several_lines: 4 lines in .txt. Set caption_key='txt:lines'"):
        CaptionReader('txt').every(files)
    assert CaptionReader('txt').every({'txt': b'one\n'}) == ['one']


def test_every_caption_is_chosen_equally_often():
    captions = ['a', 'b', 'c']
    chosen = [choose_caption(captions, seed) for seed in range(3000)]
    assert all(abs(chosen.count(caption) - 1000) < 100 for caption in captions)
    assert chosen[:50] == [choose_caption(captions, seed) for seed in range(50)]
