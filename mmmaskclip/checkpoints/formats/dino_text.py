"""Names of DINOv3's text-aligned checkpoints (dino.txt, Meta's), translated to ours."""

import re

import torch
from torch import Tensor

BACKBONE = 'visual_model.backbone.'
_TRUNK_BLOCK = {
    **{name: name for name in ('norm1.', 'norm2.', 'attn.qkv.weight', 'attn.proj.', 'mlp.fc1.', 'mlp.fc2.')},
    'ls1.gamma': 'gamma_1',
    'ls2.gamma': 'gamma_2',
}
# SwiGLU of the blocks on top: w1 makes the gate, w2 what passes it.
_TOP_BLOCK = {**_TRUNK_BLOCK, 'mlp.w1.': 'mlp.fc1_g.', 'mlp.w2.': 'mlp.fc1_x.', 'mlp.w3.': 'mlp.fc2.'}
_TEXT_BLOCK = {
    'attention_norm.': 'ln1.',
    'ffn_norm.': 'ln2.',
    'attention.qkv.weight': 'attn.qkv.weight',
    'attention.proj.': 'attn.proj.',
    'feed_forward.fc1.': 'ffn.layers.0.0.',
    'feed_forward.fc2.': 'ffn.layers.1.',
}
_BLOCKS = {
    f'{BACKBONE}blocks': ('image_encoder.trunk.blocks', _TRUNK_BLOCK),
    'visual_model.head.blocks': ('image_encoder.top_blocks', _TOP_BLOCK),
    'text_model.backbone.blocks': ('text_encoder.layers', _TEXT_BLOCK),
}
_OTHER = {
    f'{BACKBONE}cls_token': 'image_encoder.trunk.cls_token',
    f'{BACKBONE}storage_tokens': 'image_encoder.trunk.reg_token',
    f'{BACKBONE}patch_embed.': 'image_encoder.trunk.patch_embed.',
    f'{BACKBONE}norm.': 'image_encoder.trunk.norm.',
    'visual_model.head.ln_final.': 'image_encoder.top_norm.',
    'visual_model.head.linear_projection.': 'image_projection.projection.',
    'text_model.backbone.token_embedding.': 'text_encoder.token_embedding.',
    'text_model.backbone.positional_embedding': 'text_encoder.pos_embed',
    'text_model.backbone.ln_final.': 'text_encoder.final_norm.',
    'text_model.head.linear_projection.': 'text_projection.projection.',
}
# What inference does not read: the mask token of the pretraining, and numbers that follow from the architecture.
_LEFT_OUT = re.compile(rf'{re.escape(BACKBONE)}(mask_token|local_cls_norm\..+|rope_embed\..+|.+\.bias_mask)')


def is_dino_text(state_dict: dict[str, Tensor]) -> bool:
    """Whether names are those of such a model, or of the file with all of it but the image backbone."""
    return any(name.startswith('visual_model.') for name in state_dict)


def convert_dino_text(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate towers and the blocks on top to ``ImageTextPretrainer``'s names; the image backbone is timm's.

    timm keeps the biases of queries and values apart, keys have none. The text tower's queries, keys and values have no
    bias in the file, and one of zeros here.

    Raises:
        KeyError: If a part is missing, or a name is not part of such a model.
    """
    for part, name in (
        ('the image backbone', f'{BACKBONE}cls_token'),
        ('the text tower', 'text_model.backbone.token_embedding.weight'),
        ('the projection of the text tower', 'text_model.head.linear_projection.weight'),
    ):
        if name not in state_dict:
            raise KeyError(f'{name} is missing: {part} of dino.txt is needed')
    converted = {'objectives.contrast.logit_scale': state_dict['logit_scale'].reshape(())}
    for name, value in state_dict.items():
        if name == 'logit_scale' or _LEFT_OUT.fullmatch(name):
            continue
        if name.startswith(BACKBONE) and name.endswith('.attn.qkv.bias'):
            prefix = _translate(name.replace('qkv.bias', 'qkv.weight')).removesuffix('qkv.weight')
            converted[f'{prefix}q_bias'], _, converted[f'{prefix}v_bias'] = value.chunk(3)
            continue
        converted[_translate(name)] = value
        if name.endswith('.attention.qkv.weight'):
            converted[_translate(name).replace('weight', 'bias')] = torch.zeros(len(value), dtype=value.dtype)
    return converted


def _translate(name: str) -> str:
    if block := re.fullmatch(r'(\w+\.\w+\.blocks)\.(\d+)\.(.+)', name):
        ours, names = _BLOCKS.get(block[1], ('', {}))
        prefix, rest = f'{ours}.{block[2]}.', block[3]
    else:
        prefix, rest, names = '', name, _OTHER
    for theirs, ours in names.items():
        if rest.startswith(theirs):
            return prefix + rest.replace(theirs, ours, 1)
    raise KeyError(f"{name!r} is no weight of DINOv3's text-aligned ViT; only those can be converted")
