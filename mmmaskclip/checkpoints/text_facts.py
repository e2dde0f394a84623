"""The config of a text tower, from the shapes of its weights and what the files beside them say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.safe_load import read_json
from mmmaskclip.checkpoints.translate import read_beside

#: OpenCLIP's text settings of SigLIP, for files with no config beside them; activation and tokenizer follow the
#: vocabulary.
SIGLIP = dict(
    no_causal_mask=True, pool_type='last', norm_kwargs=dict(eps=1e-6), tokenizer_kwargs=dict(clean='canonicalize')
)
#: Ids of the vocabularies of SigLIP (T5), its multilingual models (mT5), SigLIP 2 (Gemma) and MetaCLIP 2 (XLM-V), with
#: the id of their padding.
PADDING = {32000: 1, 250000: 1, 256000: 0, 901629: 1}
T5, MT5, GEMMA, XLM_V, CLIP_VOCABULARY = 32000, 250000, 256000, 901629, 49408
# Settings of OpenCLIP's text towers that ours has not, with the value that means "off".
_UNSUPPORTED = dict(
    hf_model_name=None, embed_cls=False, ls_init_value=None, qk_norm=False, scaled_cosine_attn=False, scale_heads=False,
    scale_attn_inner=False, scale_attn=False, scale_fc=False, tokenizer_mode=None,
)  # fmt: skip


def check_text(settings: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Refuse OpenCLIP's settings of a text tower that cannot be built here.

    Raises:
        ValueError: Names the settings.
    """
    unsupported = [key for key, off in _UNSUPPORTED.items() if settings.get(key, off) != off]
    if settings.get('pool_type', 'argmax') not in ('argmax', 'eos', 'last'):
        unsupported.append('pool_type')
    if unsupported:
        raise ValueError(
            f'{os.fspath(path)!r} is of a model with {", ".join(f"{key}={settings[key]!r}" for key in unsupported)} in '
            'its text tower, which cannot be built here.'
        )


def text_config(
    state_dict: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    quick_gelu: bool | None,
    path: str | os.PathLike,
    tokenizer: str | None = None,
) -> dict[str, dict[str, Any]]:
    """``text_encoder`` and ``text_projection`` of a model.

    Args:
        state_dict: Weights by our names.
        settings: OpenCLIP's ``text_cfg``; what is not in it has OpenCLIP's default.
        quick_gelu: The activation.
        path: The file of weights, beside which ``tokenizer.json`` lies where the vocabulary is not CLIP's.
        tokenizer: Path of ``tokenizer.json`` elsewhere. Defaults to None.
    """
    vocabulary, width = state_dict['text_encoder.token_embedding.weight'].shape
    hidden = state_dict['text_encoder.layers.0.ffn.layers.0.0.weight'].shape[0]
    encoder = dict(
        type='CLIPTextTransformer',
        width=width,
        num_layers=sum(1 for name in state_dict if name.startswith('text_encoder.') and name.endswith('.ln1.weight')),
        num_heads=settings.get('heads') or (16 if width == 1152 else width // 64),
        vocab_size=vocabulary,
        context_length=state_dict['text_encoder.pos_embed'].shape[0],
        quick_gelu=bool(quick_gelu),
    )
    pool = settings.get('pool_type', 'eos' if vocabulary == XLM_V else 'argmax')
    tanh = (settings.get('act_kwargs') or {}).get('approximate') == 'tanh'
    optional = dict(
        hidden=hidden if hidden != 4 * width else None,
        activation='gelu_tanh' if tanh else None,
        eps=(settings.get('norm_kwargs') or {}).get('eps'),
        causal=False if settings.get('no_causal_mask') else None,
        pool={'argmax': None, 'eos': settings.get('eos_id', 2), 'last': 'last'}[pool],
        tokenizer=_tokenizer(settings, vocabulary, path, tokenizer),
    )
    encoder |= {key: value for key, value in optional.items() if value is not None}
    embed_dims = state_dict['text_projection.projection.weight'].shape[0]
    projection = dict(type='TextProjectionHead', in_channels=width, embed_dims=embed_dims)
    if 'text_projection.projection.bias' in state_dict:
        projection['bias'] = True
    return dict(text_encoder=encoder, text_projection=projection)


def _tokenizer(
    settings: Mapping[str, Any], vocabulary: int, path: str | os.PathLike, tokenizer: str | None
) -> dict[str, Any] | None:
    """Options of ``make_tokenizer``; None for CLIP's vocabulary.

    Raises:
        ValueError: If the tokens would be changed in a way that is not known here.
    """
    if not settings.get('hf_tokenizer_name') and vocabulary not in PADDING:
        return None
    kwargs = settings.get('tokenizer_kwargs') or {}
    if unknown := sorted(set(kwargs) - {'clean'}):
        raise ValueError(
            f'{os.fspath(path)!r} has tokenizer_kwargs {", ".join(unknown)}, which this package does not support.'
        )
    file = tokenizer or find_tokenizer(path)
    options = dict(file=file, pad_id=PADDING.get(vocabulary, 0), clean=kwargs.get('clean', 'whitespace'))
    if Path(file).suffix == '.model':
        if vocabulary not in (T5, MT5, GEMMA):
            raise ValueError(
                f'{file!r} is a bare model of SentencePiece, whose ids are not those of a vocabulary of {vocabulary} '
                'words: put the tokenizer.json of the repository beside the weights.'
            )
        return {**options, 'end_id': 1}
    pad_id = _pad_id(file, path)
    return options if pad_id is None else {**options, 'pad_id': pad_id}


def find_tokenizer(path: str | os.PathLike) -> str:
    """``tokenizer.json`` beside the weights, or SentencePiece's model where that alone is there."""
    beside = [Path(path).with_name(name) for name in ('tokenizer.json', 'tokenizer.model', 'spiece.model')]
    return str(next((file for file in beside if file.is_file()), beside[0]))


def _pad_id(file: str, path: str | os.PathLike) -> int | None:
    """The id of the padding as the tokenizer's own files say it, or None."""
    if not os.path.isfile(file):
        return None
    token = (read_beside(file, 'tokenizer_config.json') or {}).get('pad_token')
    token = token.get('content') if isinstance(token, dict) else token
    ids = {entry['content']: entry['id'] for entry in read_json(Path(file)).get('added_tokens') or ()}
    return ids.get(token)
