"""Parts of our models that other libraries lack: the features of an export would silently be others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from mmmaskclip.checkpoints.adapters import is_adapter

_BLOCK = ('ln1.', 'ln2.', 'attn.qkv.', 'attn.proj.', 'ffn.layers.0.0.', 'ffn.layers.1.')
# ln2 is SimCLR's norm after pooling, no part of the features.
_IMAGE = ('cls_token', 'pos_embed', 'registers', 'patch_embed.projection.', 'pre_norm.', 'ln1.', 'ln2.')
_TEXT = ('token_embedding.', 'pos_embed', 'final_norm.')


def lost_anywhere(image: Any) -> Iterator[str]:
    """What no format keeps, not even a graph: each part, with the remedy.

    Args:
        image: The image tower.
    """
    if is_trunk(image):
        return
    if not hasattr(image, 'patch_embed') or not hasattr(image, 'layers'):
        yield (
            f'the image tower is a {type(image).__name__}, which belongs to another library already: export a '
            'CLIPVisionTransformer, or load the weights there'
        )
        return
    if getattr(image, 'cls_token', None) is None or getattr(image, 'window_size', None) is not None:
        yield (
            'the image tower has windows or no class token, which no other library has: train with window_size=None '
            'and with_cls_token=True'
        )


def is_trunk(image: Any) -> bool:
    """Whether the image tower is a ``TimmTower``."""
    return hasattr(image, 'trunk')


def lost_in_settings(image: Any, head: Any) -> Iterator[str]:
    """What a graph keeps of an image tower and settings of other libraries cannot say: each part, with the remedy.

    Args:
        image: The image tower.
        head: Its projection; None if it is not exported.
    """
    if type(image.patch_embed).__name__ == 'ConvStem':
        yield 'the image tower has a convolutional stem (train with stem=None)'
    elif extra := _others(image, _IMAGE):
        yield f'the image tower has {", ".join(extra)} (train without)'
    if (reach := getattr(image, 'neighbourhood', None)) is not None:
        yield f'the image tower attends between neighbours (neighbourhood={reach}; train with neighbourhood=None)'
    if not getattr(image, 'final_norm', True):
        yield 'the image tower has no norm after its blocks (train with final_norm=True)'
    yield from _lost_of_blocks('image', image)
    if head is not None:
        yield from _lost_of_head(head)


def lost_in_texts(text: Any, head: Any) -> Iterator[str]:
    """What a graph keeps of a text tower and no settings of another library can say: each part, with the remedy.

    Args:
        text: The text tower.
        head: Its projection.
    """
    if text.pool == 'mean':
        yield "the text tower pools the mean of its words (train with pool='max')"
    if extra := _others(text, _TEXT):
        yield f'the text tower has {", ".join(extra)} (train without)'
    if getattr(head.projection, 'in_features', None) is None:
        yield f'{type(head).__name__} is no linear projection (train with embed_dims)'


def lost_beside_clip(text: Any, head: Any) -> Iterator[str]:
    """What ``CLIPModel`` of transformers cannot say of a text tower, and OpenCLIP can: each part, with the remedy."""
    yield from _lost_of_blocks('text', text)
    if text.tokenizer is not None:
        yield f"the text tower has tokenizer={text.tokenizer}, and CLIPModel's is CLIP's (train with it)"
    if not text.causal or text.pool != 'max':
        yield f"the text tower has causal={text.causal}, pool={text.pool!r} (train with causal=True, pool='max')"
    if text.layers[0].ffn.layers[1].in_features != 4 * text.width or text.final_norm.eps != 1e-5:
        yield 'the text tower has another hidden width or eps (train with 4 * width and 1e-5)'
    yield from _lost_of_head(head)


def _lost_of_blocks(name: str, tower: Any) -> Iterator[str]:
    block = tower.layers[0]
    activation = block.ffn.layers[0][1]
    if type(activation).__name__ not in ('GELU', 'QuickGELU') or getattr(activation, 'approximate', 'none') != 'none':
        yield f'the {name} tower has {activation} (train with GELU or QuickGELU)'
    if block.attn.qkv.bias is None:
        yield f'the attention of the {name} tower has no bias (train with qkv_bias=True)'


def _lost_of_head(head: Any) -> Iterator[str]:
    if not isinstance(head.projection, nn.Linear) or head.projection.bias is not None or hasattr(head, 'query'):
        yield f'{type(head).__name__} is no linear projection without a bias (train with bias=False)'


def _others(tower: Any, known: tuple[str, ...]) -> list[str]:
    """Parameters of a tower that no format has a place for; adapters are merged into weights."""
    names = []
    for name, _ in tower.named_parameters():
        in_block = name.startswith('layers.')
        part = name.split('.', 2)[2] if in_block else name
        if not part.startswith(_BLOCK if in_block else known) and not is_adapter(name):
            names.append(name)
    return names
