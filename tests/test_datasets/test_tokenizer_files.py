"""Tokenizers from files: ids as transformers gave them once, padding and cleaning as open_clip's."""

import json

import pytest
import torch

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
