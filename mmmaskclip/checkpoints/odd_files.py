"""Files of weights that are no whole CLIP: what they are, what is nearest to them, and what to give in their place."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

import torch
from torch import Tensor

# OpenCLIP's names of towers: width, blocks, patch size, image size, width of a head, and width and blocks of the text
# tower (its model_configs). The width of a head is the one thing that shapes do not show.
KNOWN = {
    'ViT-S-32': (384, 12, 32, 224, 64, 384, 12),
    'ViT-S-16': (384, 12, 16, 224, 64, 384, 12),
    'ViT-B-32': (768, 12, 32, 224, 64, 512, 12),
    'ViT-B-16': (768, 12, 16, 224, 64, 512, 12),
    'ViT-L-14': (1024, 24, 14, 224, 64, 768, 12),
    'ViT-L-14-336': (1024, 24, 14, 336, 64, 768, 12),
    'ViT-H-14': (1280, 32, 14, 224, 80, 1024, 24),
    'ViT-g-14': (1408, 40, 14, 224, 88, 1024, 24),
    'ViT-bigG-14': (1664, 48, 14, 224, 104, 1280, 32),
}
_WHOLE_BYTES = (torch.int8, torch.uint8, torch.qint8, torch.quint8)
_SCALES = ('weight_scale', '.SCB', '.absmax', '.qweight', '.scales', '._packed_params', '.quant_state')
_PATCHES = re.compile(r'(?:.*\.)?(?:patch_embed\.proj|conv1|patch_embeddings?(?:\.projection)?)\.weight')
_BLOCK = re.compile(r'(?:.*\.)?(?:blocks|resblocks|encoder\.layers?|layers)\.(\d+)\.')


def refuse_quantized(state_dict: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Refuse weights in whole bytes, which would be taken for numbers of their own.

    Raises:
        ValueError: Names the first such tensor and the remedy.
    """
    for name, value in state_dict.items():
        if (value.dtype in _WHOLE_BYTES and value.ndim > 1) or any(part in name for part in _SCALES):
            raise ValueError(
                f'{os.fspath(path)!r} is quantized: {name} is {str(value.dtype).removeprefix("torch.")}, of which only '
                'its own library knows the scale. Give the file in float32, float16 or bfloat16.'
            )


def refuse_parts(state_dict: Mapping[str, Tensor], path: str | os.PathLike) -> None:
    """Refuse what is no CLIP of two ViT towers, with what it is.

    Raises:
        ValueError: Says what the file is, what is nearest, and what to give.
    """
    refuse_quantized(state_dict, path)
    if found := _adapters(state_dict) or _resnet(state_dict) or _one_tower(state_dict) or _image_tower(state_dict):
        raise ValueError(f'{os.fspath(path)!r} {found}')


def _adapters(state_dict: Mapping[str, Tensor]) -> str | None:
    if not state_dict or not all('.lora_' in name for name in state_dict):
        return None
    return (
        f'holds adapters (LoRA) alone, {len(state_dict)} tensors, and no model: merge them into their model with the '
        'library that trained them (peft: merge_and_unload), and give the merged file.'
    )


def _resnet(state_dict: Mapping[str, Tensor]) -> str | None:
    if 'visual.layer1.0.conv1.weight' not in state_dict:
        return None
    return (
        'is a CLIP with a ResNet as image tower, which has no patches that attend and cannot be built here. '
        f'The nearest are ViTs: {", ".join(KNOWN)}.'
    )


def _one_tower(state_dict: Mapping[str, Tensor]) -> str | None:
    """Of OpenAI's, OpenCLIP's or transformers' names, but of one tower only."""
    image = any(name.startswith(('visual.', 'vision_model.', 'visual_model.')) for name in state_dict)
    # OpenCLIP names text towers of its own and of transformers alike: 'text.'.
    text = any(name.startswith(('text.', 'text_model.', 'transformer.resblocks.')) for name in state_dict)
    if image == text:
        return None
    article, there, lost = ('an', 'image', 'text') if image else ('a', 'text', 'image')
    found = f'has no {lost} tower: its {len(state_dict)} tensors are of {article} {there} tower.'
    return f'{found} {_nearest_image_tower(state_dict)}Give the file of the whole CLIP.'


def _image_tower(state_dict: Mapping[str, Tensor]) -> str | None:
    """A ViT of another library without text: of DINO, MAE, or a classifier."""
    nearest = _nearest_image_tower(state_dict)
    unnamed = not any(name.startswith(('image_encoder.', 'text_encoder.', 'vision_encoder.')) for name in state_dict)
    words = any('token_embedding' in name or name.startswith('text') for name in state_dict)
    if not nearest or words or not unnamed:
        return None
    names = list(state_dict)
    if any('decoder_' in name or name.startswith('decoder.') for name in names):
        kind = 'with a decoder of pixels, as MAE saves it'
    elif any(part in name for name in names for part in ('ls1.gamma', 'layer_scale1', 'mask_token', 'storage_tokens')):
        kind = "with layer scale or a mask token, as DINOv2's and DINOv3's"
    else:
        kind = "of timm's or transformers' names"
    return (
        f'is an image tower alone, {kind}, and has no text tower, so that nothing in it can be compared with words. '
        f'{nearest}Give a CLIP, or train a text tower on it (docs/dense.md).'
    )


def _nearest_image_tower(state_dict: Mapping[str, Tensor]) -> str:
    """The nearest known tower, and a space; nothing where there is no embedding of patches."""
    patches = next((value for name, value in state_dict.items() if _PATCHES.fullmatch(name) and value.ndim == 4), None)
    if patches is None:
        return ''
    blocks = {match[1] for name in state_dict if (match := _BLOCK.match(name)) and 'decoder' not in name}
    return nearest_tower((patches.shape[0], len(blocks), patches.shape[-1])) + ' '


def nearest_tower(here: tuple[int, ...]) -> str:
    """A sentence with the nearest of :data:`KNOWN` by their first facts, and in what it differs."""
    facts = ('width', 'blocks', 'patch size', 'image size', 'width of a head', 'text width', 'text blocks')
    name = min(KNOWN, key=lambda name: (sum(a != b for a, b in zip(KNOWN[name], here, strict=False)), name))
    differs = [
        f'{fact} {mine} for {theirs}'
        for fact, mine, theirs in zip(facts, here, KNOWN[name], strict=False)
        if mine != theirs
    ]
    return f'The nearest known tower is {name}' + (f'; it differs in {", ".join(differs)}.' if differs else '.')
