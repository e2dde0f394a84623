import json
import random
import string
import tarfile

import pytest
import torch
from mmseg.utils.tokenizer import basic_clean

from mmmaskclip.datasets.transforms.tokenize import _bpe, _cached_word_ids, pad_tokens, tokenize
from mmmaskclip.datasets.transforms.tokenize import _clean as clean


def _letters(count):
    return ''.join(random.Random(0).choices(string.ascii_lowercase, k=count))


NASTY = {
    'empty': '',
    'blank': ' \t\n ',
    'emoji': '😀 a dog 🐕‍🦺👍🏽 🇩🇪 end',
    'entities': 'salt &amp;amp; pepper &lt;b&gt;bold&lt;/b&gt; &#x1F600; &nbsp; caf&eacute;',
    'mojibake': 'l’humanitÃ© cafÃ© â€œquotedâ€\x9d ÃƒÂ©',
    'right to left': 'שלום עולם مرحبا بالعالم \u202eabc\u202c',
    'cjk': '一只猫坐在垫子上。猫が好き 고양이',
    'control': 'a\x1cb\x1dc\x1e\x1fd\x00e\x85f\u2028g\u200bh',
    'surrogate': json.loads('"broken \\ud83d end"'),
    'special tokens': 'before <end_of_text> after <start_of_text> <|endoftext|> <END_OF_TEXT>',
    'contractions': "IT'S they'LL 'S' won't",
    'numbers': '1234567 3.14159 ½ ² Ⅷ',
    'full width': 'ＦＵＬＬ　ＷＩＤＴＨ ﬁligature',
    'long sentence': 'a photo of a cat ' * 600,
    'long letters': 'a' * 10000,
    'long random letters': _letters(10000),
    'long dashes': '-' * 20000,
    'long emoji': '😂' * 10000,
    'ellipsis': '…' * 10000,
    'word of 76': 'b ' * 76,
}


@pytest.fixture(scope='module')
def reference():
    open_clip = pytest.importorskip('open_clip', reason='open_clip is the reference tokenizer')
    return open_clip.tokenizer.SimpleTokenizer()


@pytest.mark.parametrize('name', NASTY)
def test_nasty_strings_equal_open_clip(reference, name):
    (tokens,) = tokenize([NASTY[name]])
    expected = reference([NASTY[name]])[0]
    assert tokens.dtype == torch.int32
    assert tokens[0] == 49406
    assert tokens[-1] == 49407
    padded = torch.zeros(77, dtype=torch.int32)
    padded[: len(tokens)] = tokens
    assert torch.equal(padded.long(), expected)


def test_every_flickr8k_caption_equals_open_clip(reference, data_root):
    captions = []
    for shard in sorted((data_root / 'flickr8k').glob('*.tar')):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith('.json'):
                    captions.extend(json.load(tar.extractfile(member))['captions'])
    assert len(captions) == 35455
    padded = pad_tokens(tokenize(captions)).long()
    expected = reference(captions)
    assert torch.equal(padded, expected[:, : padded.shape[1]])
    assert expected[:, padded.shape[1] :].sum() == 0


def test_known_ids():
    (tokens,) = tokenize(['a photo of a cat'])
    assert tokens.tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_context_length_keeps_the_end_id():
    (tokens,) = tokenize(['a photo of a cat'], context_length=5)
    assert tokens.tolist() == [49406, 320, 1125, 539, 49407]


def test_a_huge_word_is_cut_before_merging():
    (tokens,) = tokenize([_letters(1_000_000)])
    (shorter,) = tokenize([_letters(10_000)])
    assert torch.equal(tokens, shorter)


def test_caches_are_bounded():
    size = len(_bpe().cache)
    tokenize([f'{_letters(5)}{chr(97 + i % 26)}{chr(97 + i // 26)}' for i in range(600)])
    assert len(_bpe().cache) == size
    assert _cached_word_ids.cache_info().maxsize is not None


def test_pad_tokens():
    padded = pad_tokens([torch.tensor([1, 2, 3], dtype=torch.int32), torch.tensor([4], dtype=torch.int32)])
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert padded.dtype == torch.int32


def test_a_bare_string_is_refused():
    with pytest.raises(TypeError, match=r'write \[text\]'):
        tokenize('a photo of a cat')


def test_cleaning_is_left_out_only_where_it_changes_nothing():
    draw = random.Random(0)
    letters = [chr(code) for code in range(32, 127)]
    for _ in range(300):
        text = ''.join(draw.choices(letters, k=draw.randrange(1, 40)))
        assert clean(text) == ' '.join(basic_clean(text).split())
    for text in ('a &amp; b', 'caf\u00c3\u00a9', '\x1b[36mcat', 'a\tb'):
        assert clean(text) == ' '.join(basic_clean(text).split())
