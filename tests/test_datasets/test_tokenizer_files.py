"""Tokenizers from files: ids as transformers gave them once, padding and cleaning as open_clip's."""

import json
import struct

import pytest
import torch

from mmmaskclip.checkpoints.text_facts import SIGLIP, _tokenizer
from mmmaskclip.datasets.transforms.tokenize import make_tokenizer

tokenizers = pytest.importorskip('tokenizers', reason='the extra [towers] is not installed: no package tokenizers')

# A unigram model with SentencePiece's conventions, as SigLIP's c4-en has them: </s> is 1, a space is a word's start.
PIECES = [
    ('<pad>', 0.0), ('</s>', 0.0), ('<unk>', 0.0), ('\u2581', -2.0), ('\u2581a', -2.5), ('\u2581photo', -3.0),
    ('\u2581of', -3.1), ('\u2581cat', -3.5), ('s', -3.6), ('\u2581red', -4.0), ('\u2581b', -4.1), ('us', -4.2),
    ('c', -6.0), ('a', -6.1), ('t', -6.2), ('r', -6.3), ('e', -6.4), ('d', -6.5), ('u', -6.6), ('b', -6.7), ('i', -6.8),
]  # fmt: skip
FILE = {
    'version': '1.0',
    'truncation': None,
    'padding': None,
    'added_tokens': [
        {'id': index, 'content': PIECES[index][0], 'single_word': False, 'lstrip': False, 'rstrip': False,
         'normalized': False, 'special': True} for index in range(3)
    ],
    'normalizer': None,
    'pre_tokenizer': {'type': 'Metaspace', 'replacement': '\u2581', 'prepend_scheme': 'always', 'split': True},
    'post_processor': {
        'type': 'TemplateProcessing',
        'single': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'SpecialToken': {'id': '</s>', 'type_id': 0}}],
        'pair': [{'Sequence': {'id': 'A', 'type_id': 0}}, {'Sequence': {'id': 'B', 'type_id': 0}}],
        'special_tokens': {'</s>': {'id': '</s>', 'ids': [1], 'tokens': ['</s>']}},
    },
    'decoder': None,
    'model': {'type': 'Unigram', 'unk_id': 2, 'vocab': PIECES, 'byte_fallback': False},
}  # fmt: skip
TEXTS = ['A photo of Cats!', 'a_red  bus.', '', 'a red bus ' * 5, 'caf\u00e9 &amp; cat']
# transformers 5.24.0 with tokenizers 0.23.3 on 2026-11-26: PreTrainedTokenizerFast(pad_token='</s>')(max_length=8,
# padding='max_length', truncation=True) on the texts as open_clip's clean='canonicalize' leaves them.
RECORDED = [
    [4, 5, 6, 7, 8, 1, 1, 1],
    [4, 9, 10, 11, 1, 1, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 1],
    [4, 9, 10, 11, 4, 9, 10, 1],
    [3, 12, 13, 2, 7, 1, 1, 1],
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'tokenizer.json'
    path.write_text(json.dumps(FILE))
    return str(path)


def test_ids_equal_those_of_transformers(file):
    found = make_tokenizer(dict(file=file, pad_id=1, clean='canonicalize'), 8)(TEXTS)
    assert torch.stack(found).tolist() == RECORDED
    assert found[0].dtype == torch.int32


def test_cleaning_equals_open_clips(file):
    from open_clip.tokenizer import get_clean_fn

    reader = tokenizers.Tokenizer.from_file(file)
    for how in ('whitespace', 'lower', 'canonicalize'):
        expected = [reader.encode(get_clean_fn(how)(text)).ids for text in TEXTS]
        found = make_tokenizer(dict(file=file, pad_id=0, clean=how), 40)(TEXTS)
        assert [ids[: len(other)].tolist() for ids, other in zip(found, expected, strict=True)] == expected


def test_mistakes_are_named(file, tmp_path):
    with pytest.raises(ValueError, match="clean='strip': choose"):
        make_tokenizer(dict(file=file, pad_id=0, clean='strip'), 8)(['a'])
    with pytest.raises(FileNotFoundError, match='set text_encoder.tokenizer.file'):
        make_tokenizer(dict(file=str(tmp_path / 'no.json'), pad_id=0), 8)(['a'])
    with pytest.raises(TypeError, match='write'):
        make_tokenizer(dict(file=file, pad_id=0), 8)('a cat')


def field(number, content):
    """One field of a protocol buffer: text and messages with their length, numbers as they are."""
    if isinstance(content, int):
        return bytes([number << 3, content])
    if isinstance(content, float):
        return bytes([number << 3 | 5]) + struct.pack('<f', content)
    content = content.encode() if isinstance(content, str) else content
    return bytes([number << 3 | 2, len(content)]) + content


def write_sentence_piece(path):
    """The same words as a model of SentencePiece (sentencepiece_model.proto): a unigram model that changes no text."""
    kinds = {'<pad>': 3, '</s>': 3, '<unk>': 2}
    pieces = [field(1, word) + field(2, score) + field(3, kinds.get(word, 1)) for word, score in PIECES]
    path.write_bytes(
        b''.join(field(1, piece) for piece in pieces) + field(2, field(3, 1)) + field(3, field(1, 'identity'))
    )
    return str(path)


def test_a_bare_model_of_sentence_piece_gives_the_same_ids(tmp_path):
    pytest.importorskip('sentencepiece', reason='the extra [towers] is not installed: no package sentencepiece')
    file = write_sentence_piece(tmp_path / 'spiece.model')
    found = make_tokenizer(dict(file=file, pad_id=1, clean='canonicalize', end_id=1), 8)(TEXTS)
    assert torch.stack(found).tolist() == RECORDED
    # TIPS's captions have no end, and are padded by zeros.
    found = make_tokenizer(dict(file=file, pad_id=0, clean='lower'), 8)(['a red  BUS', 'a red bus ' * 5, ''])
    assert torch.stack(found).tolist() == [[4, 9, 10, 11, 0, 0, 0, 0], [4, 9, 10, 11, 4, 9, 10, 11], [0] * 8]
    with pytest.raises(FileNotFoundError, match='set text_encoder.tokenizer.file'):
        make_tokenizer(dict(file=str(tmp_path / 'no.model'), pad_id=0), 8)(['a'])


def test_a_bare_model_beside_the_weights_is_taken_where_its_ids_are_those_of_the_tower(tmp_path):
    weights = tmp_path / 'model.safetensors'
    assert _tokenizer(SIGLIP, 32000, weights, None)['file'] == str(tmp_path / 'tokenizer.json')
    file = write_sentence_piece(tmp_path / 'spiece.model')
    for vocabulary, pad_id in ((32000, 1), (250000, 1), (256000, 0)):
        assert _tokenizer(SIGLIP, vocabulary, weights, None) == dict(
            file=file, pad_id=pad_id, clean='canonicalize', end_id=1
        )
    with pytest.raises(ValueError, match='not those of a vocabulary of 901629 words: put the tokenizer.json'):
        _tokenizer({}, 901629, weights, None)
