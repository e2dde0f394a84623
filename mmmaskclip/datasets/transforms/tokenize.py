"""CLIP's byte-pair tokenizer (mmseg ships it), made safe for captions from the web; and tokenizers from files."""

import re
import string
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmmaskclip.startup.dependencies import TOWERS, pip_install

#: Texts to token ids, int32 (L,) each.
Tokenizer = Callable[[list[str]], list[Tensor]]

# Byte-pair merging takes time quadratic in the length of a word: a megabyte of letters without a space would stop a
# worker for hours. A word is therefore cut after this many bytes per token. The longest entry of the vocabulary has 64
# bytes, so the cut does not change the 75 tokens of a caption that are kept.
_BYTES_PER_TOKEN = 110
_CACHED_WORDS = 65536
# Cleaning removes entities (&...;) and terminal codes (ESC[...), but no letter or digit elsewhere.
_SURE = re.compile('[A-Za-z0-9]')


@lru_cache(maxsize=1)
def _bpe() -> Any:
    # Imported at first use: mmseg.utils takes a second, too long for an import of the registry.
    from mmseg.utils.tokenizer import _tokenizer

    return _tokenizer


def _word_ids(word: str, max_bytes: int) -> tuple[int, ...]:
    bpe = _bpe()
    symbols = ''.join(bpe.byte_encoder[byte] for byte in word.encode('utf-8')[:max_bytes])
    was_cached = symbols in bpe.cache
    ids = tuple(bpe.encoder[token] for token in bpe.bpe(symbols).split(' '))
    if not was_cached:
        # mmseg caches every word for ever: gigabytes per worker after a few hundred million captions.
        bpe.cache.pop(symbols, None)
    return ids


_cached_word_ids = lru_cache(maxsize=_CACHED_WORDS)(_word_ids)


def _clean(text: str) -> str:
    if text.isascii() and text.isprintable() and '&' not in text:
        # ftfy has nothing to repair and there is no HTML entity: only spaces remain to be cleaned.
        return ' '.join(text.split())
    from mmseg.utils.tokenizer import basic_clean

    # As open_clip: split at Python's whitespace; mmseg's regex misses some of it.
    return ' '.join(basic_clean(text).split())


def is_blank(text: str) -> bool:
    """Whether a caption has no visible character after the tokenizer's cleaning: ``'&nbsp;'``, a lone BOM, NULs."""
    if _SURE.search(text) and '&' not in text and '\x1b' not in text:
        return False
    # Unicode's categories C and Z: control characters, format characters, spaces.
    return all(unicodedata.category(letter)[0] in 'CZ' for letter in _clean(text))


def _encode(text: str, max_ids: int) -> list[int]:
    ids: list[int] = []
    for match in _bpe().pat.finditer(_clean(text).lower()):
        word = match.group()
        if len(word) <= 64:
            ids.extend(_cached_word_ids(word, 4 * 64))
        else:
            ids.extend(_word_ids(word, max_ids * _BYTES_PER_TOKEN))
        if len(ids) >= max_ids:
            break
    return ids[:max_ids]


def tokenize(texts: list[str], context_length: int = 77) -> list[Tensor]:
    """Turn captions into CLIP's token ids.

    The ids are those of OpenAI's and open_clip's tokenizer: 49408 ids, start 49406, end 49407. Before encoding, ftfy
    repairs the text, HTML entities are resolved, spaces collapsed and letters lowered. A literal ``<end_of_text>``
    inside a caption becomes the id 49407, as in open_clip.

    Args:
        texts: Captions, one string each.
        context_length: Longest result, start and end ids included. Longer captions are truncated before the end id.

    Returns:
        One int32 tensor (L,), 2 <= L <= ``context_length``, per caption: start id, words, end id; not padded.
    """
    if isinstance(texts, str):
        raise TypeError(f'tokenize needs a list of captions, got the string {texts[:40]!r}; write [text]')
    encoder = _bpe().encoder
    start, end = encoder['<start_of_text>'], encoder['<end_of_text>']
    return [torch.tensor([start, *_encode(text, context_length - 2), end], dtype=torch.int32) for text in texts]


def pad_tokens(tokens: list[Tensor]) -> Tensor:
    """Stack captions of different length, padded with zeros to the longest.

    No mask is needed: a causal text tower that pools at the end id never attends to the padding.

    Args:
        tokens: T int32 tensors (L_i,).

    Returns:
        int32 tensor (T, max L_i).
    """
    return torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)


def make_tokenizer(options: dict | None, context_length: int) -> Tokenizer:
    """CLIP's tokenizer, or one from a file.

    Args:
        options: Arguments of :func:`tokenize_by_file` except the texts and the length; None for CLIP's.
        context_length: Longest caption in tokens.
    """
    if options is None:
        return partial(tokenize, context_length=context_length)
    return partial(tokenize_by_file, context_length=context_length, **options)


def tokenize_by_file(
    texts: list[str],
    context_length: int,
    file: str,
    pad_id: int,
    clean: str = 'whitespace',
    end_id: int | None = None,
) -> list[Tensor]:
    """Token ids by a ``tokenizer.json``, as open_clip's ``HFTokenizer`` gives them, or by a model of SentencePiece.

    Args:
        texts: Captions, one string each.
        context_length: Length of the result. Longer captions are truncated before the end tokens of the file, shorter
            ones padded, because a tower that is not causal sees the padding too.
        file: Path of ``tokenizer.json``; or of SentencePiece's model, whose name ends in ``.model``.
        pad_id: Id of the padding: 1 for SigLIP, 0 for SigLIP 2.
        clean: ``'whitespace'`` repairs the text and collapses spaces; ``'lower'`` lowers the letters, too;
            ``'canonicalize'``, SigLIP's, also removes punctuation. Defaults to ``'whitespace'``.
        end_id: Id of the end of a caption for SentencePiece's models, which do not contain it: 1 for SigLIP and SigLIP
            2. Defaults to None: no end.

    Returns:
        One int32 tensor (context_length,) per caption.

    Raises:
        ImportError: If the package tokenizers, or sentencepiece, is not installed.
        FileNotFoundError: If there is no such file.
        ValueError: If ``clean`` is none of these.
    """
    if isinstance(texts, str):
        raise TypeError(f'tokenizing needs a list of captions, got the string {texts[:40]!r}; write [text]')
    cleaned = [_cleaned(text, clean) for text in texts]
    if Path(file).suffix == '.model':
        end = [] if end_id is None else [end_id]
        words = _sentence_piece(file).encode(cleaned)
        encoded = [ids[: context_length - len(end)] + end for ids in words]
    else:
        encoded = [one.ids for one in _file_tokenizer(file, context_length).encode_batch(cleaned)]
    rows = torch.full((len(texts), context_length), pad_id, dtype=torch.int32)
    for row, ids in zip(rows, encoded, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int32)
    return list(rows)


@lru_cache(maxsize=4)
def _sentence_piece(file: str) -> Any:
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError as error:
        raise ImportError(f'{file} needs the package sentencepiece: {pip_install(*TOWERS)}') from error
    _check_tokenizer(file)
    return SentencePieceProcessor(model_file=file)


def _check_tokenizer(file: str) -> None:
    if not Path(file).is_file():
        raise FileNotFoundError(
            f'There is no tokenizer {file!r}: set text_encoder.tokenizer.file to the tokenizer.json of the weights'
        )


@lru_cache(maxsize=4)
def _file_tokenizer(file: str, context_length: int) -> Any:
    try:
        from tokenizers import Tokenizer as FileTokenizer
    except ImportError as error:
        raise ImportError(f'{file} needs the package tokenizers: {pip_install(*TOWERS)}') from error
    _check_tokenizer(file)
    reader = FileTokenizer.from_file(file)
    reader.no_padding()
    reader.enable_truncation(context_length)
    return reader


def _cleaned(text: str, how: str) -> str:
    text = _clean(text)
    if how == 'whitespace':
        return text
    if how == 'lower':
        return text.lower()
    if how != 'canonicalize':
        raise ValueError(f"clean={how!r}: choose 'whitespace', 'lower' or 'canonicalize'")
    # big_vision's canonicalization of captions, which SigLIP was trained with.
    text = text.replace('_', ' ').translate(str.maketrans('', '', string.punctuation)).lower()
    return ' '.join(text.split())
