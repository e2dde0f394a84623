"""Names of Hugging Face's CLIP checkpoints (``transformers.CLIPModel``), translated to ours."""

import math
import re

import torch
from torch import Tensor

_BLOCK = {
    'layer_norm1.': 'ln1.',
    'layer_norm2.': 'ln2.',
    # The first of three, which become one.
    'self_attn.q_proj.': 'attn.qkv.',
    'self_attn.out_proj.': 'attn.proj.',
    'mlp.fc1.': 'ffn.layers.0.0.',
    'mlp.fc2.': 'ffn.layers.1.',
}
_OTHER = {
    'vision_model.embeddings.class_embedding': 'image_encoder.cls_token',
    'vision_model.embeddings.position_embedding.weight': 'image_encoder.pos_embed',
    'vision_model.embeddings.patch_embedding.weight': 'image_encoder.patch_embed.projection.weight',
    # Their spelling.
    'vision_model.pre_layrnorm.': 'image_encoder.pre_norm.',
    'vision_model.post_layernorm.': 'image_encoder.ln1.',
    'visual_projection.': 'image_projection.projection.',
    'text_model.embeddings.token_embedding.': 'text_encoder.token_embedding.',
    'text_model.embeddings.position_embedding.weight': 'text_encoder.pos_embed',
    'text_model.final_layer_norm.': 'text_encoder.final_norm.',
    'text_projection.': 'text_projection.projection.',
    'logit_scale': 'objectives.contrast.logit_scale',
}
# SigLIP's image tower has no class token and a pool by attention; it is timm's here.
_SIGLIP_BLOCK = {
    'layer_norm1.': 'norm1.',
    'layer_norm2.': 'norm2.',
    'self_attn.q_proj.': 'attn.qkv.',
    'self_attn.out_proj.': 'attn.proj.',
    'mlp.': 'mlp.',
}
_SIGLIP_OTHER = {
    'vision_model.embeddings.patch_embedding.': 'image_encoder.trunk.patch_embed.proj.',
    'vision_model.embeddings.position_embedding.weight': 'image_encoder.trunk.pos_embed',
    'vision_model.post_layernorm.': 'image_encoder.trunk.norm.',
    'vision_model.head.probe': 'image_projection.query',
    'vision_model.head.attention.': 'image_projection.attention.',
    'vision_model.head.layernorm.': 'image_projection.norm.',
    'vision_model.head.mlp.fc1.': 'image_projection.mlp.0.',
    'vision_model.head.mlp.fc2.': 'image_projection.mlp.2.',
    'text_model.head.': 'text_projection.projection.',
    'logit_bias': 'objectives.contrast.loss.bias',
}


def is_siglip(state_dict: dict[str, Tensor]) -> bool:
    """Whether names are those of a ``transformers.SiglipModel``."""
    return 'vision_model.head.probe' in state_dict


def is_naflex(state_dict: dict[str, Tensor]) -> bool:
    """Whether they are of a SigLIP 2 of variable shapes, a ``transformers.Siglip2Model``."""
    weight = state_dict.get('vision_model.embeddings.patch_embedding.weight')
    return is_siglip(state_dict) and weight is not None and weight.ndim == 2


def convert_hf_clip(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate a checkpoint of transformers to ``ImageTextPretrainer``'s names and shapes.

    The model must be configured as :func:`~mmmaskclip.checkpoints.formats.open_clip.convert_open_clip` says.

    Args:
        state_dict: Of a ``CLIPModel``, ``SiglipModel`` or ``Siglip2Model``. The latter's patches are rows of pixels,
            of which a convolution reads the same.

    Returns:
        State dict for ``ImageTextPretrainer``.

    Raises:
        KeyError: If a name is not part of such a model, or a layer lacks some of query, key and value.
    """
    converted, siglip, naflex = {}, is_siglip(state_dict), is_naflex(state_dict)
    for name, value in state_dict.items():
        # Buffers of older versions.
        if name.endswith('.position_ids'):
            continue
        joined = re.fullmatch(r'(.+\.self_attn\.)([qkv])_proj(\.\w+)', name)
        if joined:
            parts = [f'{joined[1]}{part}_proj{joined[3]}' for part in 'qkv']
            if missing := [part for part in parts if part not in state_dict]:
                raise KeyError(f'{", ".join(missing)} missing, while there is {name}: the file is not complete')
            if joined[2] != 'q':
                continue
            value = torch.cat([state_dict[part] for part in parts])
        elif name == 'vision_model.embeddings.class_embedding':
            value = value.view(1, 1, -1)
        elif name == 'vision_model.embeddings.position_embedding.weight':
            value = value.unsqueeze(0)
        elif naflex and name == 'vision_model.embeddings.patch_embedding.weight':
            side = math.isqrt(value.shape[1] // 3)
            value = value.unflatten(1, (side, side, 3)).permute(0, 3, 1, 2).contiguous()  # (C, 3, P, P)
        converted[_translate(name, siglip)] = value
    return converted


def _translate(name: str, siglip: bool) -> str:
    block = re.fullmatch(r'(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)', name)
    if block:
        tower, names = ('image_encoder' if block[1] == 'vision' else 'text_encoder'), _BLOCK
        layers = f'{tower}.layers'
        if siglip and block[1] == 'vision':
            layers, names = f'{tower}.trunk.blocks', _SIGLIP_BLOCK
        for theirs, ours in names.items():
            if block[3].startswith(theirs):
                return f'{layers}.{block[2]}.{block[3].replace(theirs, ours, 1)}'
    for theirs, ours in (*_SIGLIP_OTHER.items(), *_OTHER.items()) if siglip else _OTHER.items():
        if name == theirs or (theirs.endswith('.') and name.startswith(theirs)):
            return name.replace(theirs, ours, 1)
    raise KeyError(f'{name!r} is no weight of a CLIPModel or SiglipModel of transformers; only those can be converted')
