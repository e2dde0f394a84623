"""Text towers in other libraries: OpenCLIP's settings and names, and the files of a tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.export.parts import NotExpressible, renamed
from mmmaskclip.startup.dependencies import TOWERS, pip_install

#: Ours to OpenCLIP's, within a block.
OPEN_CLIP_BLOCK = {
    'ln1.': 'ln_1.',
    'ln2.': 'ln_2.',
    'attn.qkv.': 'attn.in_proj_',
    'attn.proj.': 'attn.out_proj.',
    'ffn.layers.0.0.': 'mlp.c_fc.',
    'ffn.layers.1.': 'mlp.c_proj.',
}
_OTHER = {'token_embedding.': 'token_embedding.', 'pos_embed': 'positional_embedding', 'final_norm.': 'ln_final.'}


def open_clip_words(text: Any, head: Any) -> dict[str, Any]:
    """``text_cfg`` of OpenCLIP's model; what has OpenCLIP's default is left out.

    Args:
        text: A ``CLIPTextTransformer`` that is pooled at one word.
        head: Its linear projection.

    Raises:
        NotExpressible: If OpenCLIP lacks the activation.
    """
    feed_forward = text.layers[0].ffn.layers
    words = dict(
        context_length=text.context_length,
        vocab_size=text.token_embedding.num_embeddings,
        width=text.width,
        heads=text.layers[0].attn.num_heads,
        layers=len(text.layers),
    )
    activation = feed_forward[0][1]
    if type(activation).__name__ not in ('GELU', 'QuickGELU'):
        raise NotExpressible(f'OpenCLIP has no text tower with {activation}; --to onnx and --to torchscript keep it')
    if getattr(activation, 'approximate', 'none') != 'none':
        words['act_kwargs'] = dict(approximate=activation.approximate)
    if feed_forward[1].in_features != 4 * text.width:
        words['mlp_ratio'] = feed_forward[1].in_features / text.width
    if text.final_norm.eps != 1e-5:
        words['norm_kwargs'] = dict(eps=text.final_norm.eps)
    if not text.causal:
        words['no_causal_mask'] = True
    if text.pool == 'last':
        words['pool_type'] = 'last'
    elif text.pool != 'max':
        words |= dict(pool_type='eos', eos_id=text.pool)
    if head.projection.bias is not None:
        words['proj_bias'] = True
    if text.tokenizer is not None:
        # The name says only that there is a tokenizer: of a folder OpenCLIP reads the one that lies in it.
        words['hf_tokenizer_name'] = 'tokenizer.json'
        words['tokenizer_kwargs'] = dict(clean=text.tokenizer.get('clean', 'whitespace'))
    return words


def open_clip_text_weights(text: Mapping[str, Tensor], projection: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a text tower and of its projection by OpenCLIP's names.

    Args:
        text: Weights of the tower, by our names below it.
        projection: ``weight`` and, where there is one, ``bias`` of the projection.
    """
    names = {name: renamed(name, OPEN_CLIP_BLOCK, _OTHER, 'transformer.resblocks.') for name in text}
    weights = {new: text[name] for name, new in names.items() if new}
    if 'bias' in projection:  # a layer there, a matrix otherwise
        return weights | {f'text_projection.{kind}': value for kind, value in projection.items()}
    return weights | {'text_projection': projection['weight'].t()}


def tokenizer_file(text: Any) -> Path | None:
    """The file of a text tower's tokenizer; None for CLIP's.

    Raises:
        NotExpressible: If it is not there.
    """
    if text.tokenizer is None:
        return None
    file = Path(text.tokenizer['file'])
    if not file.is_file():
        raise NotExpressible(
            f'there is no tokenizer {str(file)!r}, without which nobody could use the text tower: set '
            'text_encoder.tokenizer.file to the tokenizer.json of the weights'
        )
    return file


def file_tokenizer_texts(text: Any) -> dict[str, Any]:
    """Content of the files of Hugging Face's ``AutoTokenizer`` for a text tower whose tokenizer is a file.

    Raises:
        NotExpressible: If it is not there, or a bare model of SentencePiece, which ``AutoTokenizer`` does not read.
    """
    file = tokenizer_file(text)
    assert file is not None
    if file.suffix == '.model':
        raise NotExpressible(
            f"{str(file)!r} is a bare model of SentencePiece, and OpenCLIP reads Hugging Face's tokenizer.json: set "
            'text_encoder.tokenizer.file to that of the repository'
        )
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ImportError(f'{file} needs the package tokenizers: {pip_install(*TOWERS)}') from error
    pad = Tokenizer.from_file(str(file)).id_to_token(text.tokenizer['pad_id'])
    config = dict(tokenizer_class='PreTrainedTokenizerFast', model_max_length=text.context_length, pad_token=pad)
    return {'tokenizer.json': file.read_text(encoding='utf-8'), 'tokenizer_config.json': config}
