"""Names of TIPS's and TIPSv2's checkpoints (Google's, which transformers keeps), translated to ours."""

import math
import re

import torch
from torch import Tensor

#: Longest caption (Maninis et al. 2025; transformers' ``Tipsv2TextConfig``).
LENGTH = 64
# What transformers divides cosines by where a file has no temperature, as the published ones.
_TEMPERATURE = 0.005065968260169029
_IMAGE = {
    'patch_embed.': 'patch_embed.',
    'register_tokens': 'reg_token',
    'norm.': 'norm.',
}
_IMAGE_BLOCK = {
    **{name: name for name in ('norm1.', 'norm2.', 'attn.qkv.', 'attn.proj.', 'ls1.', 'ls2.', 'mlp.fc1.', 'mlp.fc2.')},
    'mlp.c_fc.': 'mlp.fc1.',
    'mlp.c_proj.': 'mlp.fc2.',
    # SwiGLU of the giant: gate and value in one matrix.
    'mlp.w12.': 'mlp.fc1.',
    'mlp.w3.': 'mlp.fc2.',
}
_TEXT = {'token_embedding.': 'token_embedding.', 'ln_final.': 'final_norm.'}
_TEXT_BLOCK = {
    'ln_1.': 'ln1.',
    'ln_2.': 'ln2.',
    'attn.in_proj_': 'attn.qkv.',
    'attn.out_proj.': 'attn.proj.',
    'mlp.c_fc.': 'ffn.layers.0.0.',
    'mlp.c_proj.': 'ffn.layers.1.',
}


def is_tips(state_dict: dict[str, Tensor]) -> bool:
    """Whether names are those of a ``transformers.Tipsv2Model``."""
    return 'vision_encoder.cls_token' in state_dict


def convert_tips(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate both towers to ``ImageTextPretrainer``'s names and shapes; the image tower is timm's.

    The class token takes the position that the file has for it, word embeddings take their factor, the square root of
    the width, and the temperature becomes the logit scale. The mask token, which only training needs, is left out.

    Raises:
        KeyError: If a tower is missing, or a name is not part of such a model.
    """
    for tower in ('vision_encoder.cls_token', 'text_encoder.token_embedding.weight'):
        if tower not in state_dict:
            raise KeyError(f'{tower} is missing: both towers of TIPS are needed')
    positions = state_dict['vision_encoder.pos_embed']
    width = state_dict['text_encoder.token_embedding.weight'].shape[1]
    temperature = state_dict.get('temperature', torch.tensor(_TEMPERATURE))
    converted = {
        'image_encoder.trunk.cls_token': state_dict['vision_encoder.cls_token'] + positions[:, :1],
        'image_encoder.trunk.pos_embed': positions[:, 1:],
        'text_encoder.pos_embed': sinusoids(LENGTH, width),
        'objectives.contrast.logit_scale': -temperature.float().log(),
    }
    for name, value in state_dict.items():
        if name not in (
            'temperature',
            *(f'vision_encoder.{part}' for part in ('cls_token', 'mask_token', 'pos_embed')),
        ):
            converted[_translate(name)] = value
    converted['text_encoder.token_embedding.weight'] = converted['text_encoder.token_embedding.weight'] * width**0.5
    return converted


def _translate(name: str) -> str:
    block = re.fullmatch(r'(vision_encoder\.blocks|text_encoder\.transformer\.resblocks)\.(\d+)\.(.+)', name)
    if block:
        image = block[1].startswith('vision')
        layers, names = ('image_encoder.trunk.blocks', _IMAGE_BLOCK) if image else ('text_encoder.layers', _TEXT_BLOCK)
        prefix, rest = f'{layers}.{block[2]}.', block[3]
    else:
        tower, _, rest = name.partition('.')
        prefix, names = {
            'vision_encoder': ('image_encoder.trunk.', _IMAGE),
            'text_encoder': ('text_encoder.', _TEXT),
        }.get(tower, ('', {}))
    for theirs, ours in names.items():
        if rest.startswith(theirs):
            return prefix + rest.replace(theirs, ours, 1)
    raise KeyError(f'{name!r} is no weight of TIPS as Google and transformers store it; only those can be converted')


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed positions (L, C) of tensor2tensor: sines in the first half, cosines in the second."""
    half = width // 2
    rates = torch.exp(torch.arange(half) * (-math.log(10000) / (half - 1)))  # (C / 2,)
    angles = torch.arange(length)[:, None] * rates  # (L, C / 2)
    return torch.cat((angles.sin(), angles.cos()), dim=1)
