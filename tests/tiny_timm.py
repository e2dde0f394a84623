"""Small models of timm, of the classes that CLIPs have as image towers, under names of their own."""

import timm
import torch
from open_clip.model import CustomTextCLIP
from timm.models.vision_transformer_hybrid import ConvStem, _create_vision_transformer_hybrid
from torch import nn

_SIZE = dict(embed_dim=32, depth=4, num_heads=2)


def _small(of, **changes):
    def create(pretrained=False, **kwargs):
        return timm.create_model(of, pretrained, **{**_SIZE, 'img_size': 32, 'patch_size': 8, **changes, **kwargs})

    return create


def _mci(pretrained=False, **kwargs):
    """MobileCLIP-B's: a convolutional stem, no position for the class token."""
    stem = ConvStem(channels=(8, 8, 32), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU)
    settings = dict(_SIZE, no_embed_class=True, img_size=64)
    return _create_vision_transformer_hybrid(
        'vit_base_mci_224', pretrained=pretrained, backbone=stem, embed_args=dict(proj=False), **{**settings, **kwargs}
    )


# Names as the families have them: the patch size, then the image size.
MODELS = {
    'tiny_patch8_siglip_32': _small('vit_base_patch16_siglip_224'),
    'tiny_patch8_siglip_tanh_32': _small('vit_base_patch16_siglip_224', act_layer='gelu_tanh'),
    'tiny_patch8_eva02_32': _small('eva02_base_patch16_clip_224', ref_feat_shape=(3, 3)),
    'tiny_patch8_eva02_fused_32': _small('eva02_base_patch16_clip_224', qkv_fused=True),
    'tiny_patch8_eva02_post_32': _small('eva02_enormous_patch14_clip_224', mlp_ratio=3),
    'tiny_patch8_eva01_32': _small('eva_giant_patch14_224', mlp_ratio=3),
    'tiny_patch8_pe_core_32': _small('vit_pe_core_base_patch16_224', attn_pool_num_heads=4, ref_feat_shape=(3, 3)),
    'tiny_patch8_pe_core_no_cls_32': _small('vit_pe_core_gigantic_patch14_448', attn_pool_num_heads=4),
    'tiny_mci_64': _mci,
}
for _name, _create in MODELS.items():
    _create.__name__ = _name
    _create.__module__ = __name__
    timm.models.register_model(_create)

_SIGLIP = dict(
    context_length=10, vocab_size=50, no_causal_mask=True, proj_bias=True, pool_type='last', heads=2,
    norm_kwargs=dict(eps=1e-6), hf_tokenizer_name='timm/siglip', tokenizer_kwargs=dict(clean='canonicalize'),
)  # fmt: skip
_CLIP = dict(context_length=12, vocab_size=60, heads=2)


def model_cfg(name):
    """OpenCLIP's ``model_cfg`` of a small model, as its families have it."""
    siglip, pooled = 'siglip' in name, 'siglip' in name or 'pe_core' in name
    text = dict(_SIGLIP if siglip else _CLIP, width=32, layers=2)
    if 'tanh' in name:
        text['act_kwargs'] = dict(approximate='tanh')
    return dict(
        embed_dim=32 if siglip else 16,
        custom_text=True,
        vision_cfg=dict(
            timm_model_name=name,
            image_size=int(name.rpartition('_')[2]),
            timm_pool='map' if pooled else 'token',
            timm_proj='none' if siglip else None,
        ),
        text_cfg=text,
        **(dict(init_logit_bias=-10.0) if siglip else {}),
    )


def open_clip_model(name):
    """OpenCLIP's model with random weights, none of which is 0 or 1."""
    torch.manual_seed(0)
    config = model_cfg(name)
    model = CustomTextCLIP(config['embed_dim'], config['vision_cfg'], config['text_cfg'],
                           init_logit_bias=config.get('init_logit_bias'))  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.1))
        for parameter in (model.logit_scale, model.logit_bias):
            if parameter is not None:
                parameter.fill_(1.5)
    return model.eval().requires_grad_(False)
