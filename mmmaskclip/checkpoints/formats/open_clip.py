"""Names of OpenAI's and OpenCLIP's ViT checkpoints, translated to ours."""

import re

from torch import Tensor

from mmmaskclip.checkpoints.formats.timm_trunk import convert_trunk, is_trunk

_BLOCK = {
    'ln_1': 'ln1',
    'ln_2': 'ln2',
    'attn.in_proj_': 'attn.qkv.',
    'attn.out_proj': 'attn.proj',
    'mlp.c_fc': 'ffn.layers.0.0',
    'mlp.c_proj': 'ffn.layers.1',
}
_OTHER = {
    'visual.class_embedding': 'image_encoder.cls_token',
    'visual.positional_embedding': 'image_encoder.pos_embed',
    'visual.conv1.weight': 'image_encoder.patch_embed.projection.weight',
    'visual.ln_pre.': 'image_encoder.pre_norm.',
    'visual.ln_post.': 'image_encoder.ln1.',
    'visual.proj': 'image_projection.projection.weight',
    'token_embedding.': 'text_encoder.token_embedding.',
    'positional_embedding': 'text_encoder.pos_embed',
    'ln_final.': 'text_encoder.final_norm.',
    'text_projection': 'text_projection.projection.weight',
    'text_projection.': 'text_projection.projection.',
    'logit_scale': 'objectives.contrast.logit_scale',
    'logit_bias': 'objectives.contrast.loss.bias',
}
# Buffers that OpenAI's TorchScript archives carry.
_NOT_WEIGHTS = ('input_resolution', 'context_length', 'vocab_size', 'attn_mask')


def convert_open_clip(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate a ViT CLIP checkpoint of OpenAI or OpenCLIP to ``ImageTextPretrainer``'s names and shapes.

    The model must be configured to match: ``pre_norm=True``, ``norm_cfg=dict(type='LN', eps=1e-5)``, ``pool='cls'``, an
    objective named ``contrast``, and ``quick_gelu=True`` in both towers for OpenAI's weights.

    Args:
        state_dict: Of a ``open_clip.CLIP`` with a ViT image tower, OpenCLIP's or timm's.

    Returns:
        State dict for ``ImageTextPretrainer``.

    Raises:
        KeyError: If a name is not part of such a model, for example of a ResNet tower.
    """
    converted, trunk = {}, is_trunk(state_dict)
    if trunk:
        converted = convert_trunk(state_dict)
    for name, value in state_dict.items():
        if trunk and name.startswith('visual.'):
            continue
        # OpenCLIP's CustomTextCLIP keeps the text tower in a module of its own.
        name = name.removeprefix('text.')
        if name in _NOT_WEIGHTS:
            continue
        new_name = _translate(name)
        if name in ('visual.proj', 'text_projection'):
            value = value.t()
        elif name == 'visual.class_embedding':
            value = value.view(1, 1, -1)
        elif name == 'visual.positional_embedding':
            value = value.unsqueeze(0)
        converted[new_name] = value.contiguous()
    return converted


def _translate(name: str) -> str:
    block = re.fullmatch(r'(visual\.)?transformer\.resblocks\.(\d+)\.(.+)', name)
    if block:
        tower = 'image_encoder' if block[1] else 'text_encoder'
        for theirs, ours in _BLOCK.items():
            if block[3].startswith(theirs):
                return f'{tower}.layers.{block[2]}.{block[3].replace(theirs, ours, 1)}'
    for theirs, ours in _OTHER.items():
        if name == theirs or (theirs.endswith('.') and name.startswith(theirs)):
            return name.replace(theirs, ours, 1)
    raise KeyError(f'{name!r} is no weight of a ViT CLIP as OpenAI and OpenCLIP store it; only those can be converted')
