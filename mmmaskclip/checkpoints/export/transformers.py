"""To Hugging Face: a folder that ``transformers.CLIPModel.from_pretrained`` and ``CLIPProcessor`` load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmmaskclip.checkpoints.export.parts import (
    NotExpressible,
    Pixels,
    Settings,
    check_parts,
    logit,
    pixels_of,
    positions_with_bias,
    renamed,
    settings_of,
    tower,
)
from mmmaskclip.checkpoints.export.refusals import is_trunk, lost_beside_clip

_BLOCK = {
    'ln1.': 'layer_norm1.',
    'ln2.': 'layer_norm2.',
    'attn.proj.': 'self_attn.out_proj.',
    'ffn.layers.0.0.': 'mlp.fc1.',
    'ffn.layers.1.': 'mlp.fc2.',
}
_IMAGE = {
    'patch_embed.projection.weight': 'vision_model.embeddings.patch_embedding.weight',
    # Their spelling.
    'pre_norm.': 'vision_model.pre_layrnorm.',
    'ln1.': 'vision_model.post_layernorm.',
}
_TEXT = {
    'token_embedding.': 'text_model.embeddings.token_embedding.',
    'pos_embed': 'text_model.embeddings.position_embedding.weight',
    'final_norm.': 'text_model.final_layer_norm.',
}


def to_transformers(model: Any, state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``config.json`` and the weights of ``CLIPModel``.

    Args:
        model: A built ``ImageTextPretrainer``.
        state_dict: Its weights, with merged adapters.

    Raises:
        NotExpressible: If a tower has what ``CLIPModel`` has not: mean pooling, no norm before the blocks, registers,
            an oblong image, or a text tower unlike CLIP's; or if the image tower is a ``TimmTower``.
    """
    check_parts(model)
    if is_trunk(model.image_encoder):
        raise NotExpressible(
            f"the image tower is timm's {model.image_encoder.model_name}, which CLIPModel of transformers cannot "
            'compute: --to open_clip and --to timm know it by its name, --to onnx and --to torchscript keep everything'
        )
    settings = settings_of(model)
    _check_expressible(model, settings, state_dict)
    return _config(model, settings), _weights(state_dict)


def _check_expressible(model: Any, settings: Settings, state_dict: Mapping[str, Tensor]) -> None:
    lost = list(lost_beside_clip(model.text_encoder, model.text_projection))
    if settings.pool != 'cls':
        lost.append("it pools the class token and not the mean of the patches (train with image_projection.pool='cls')")
    if not settings.pre_norm:
        lost.append('it has a norm before the blocks (train with image_encoder.pre_norm=True)')
    if settings.registers:
        lost.append('it has no registers (train with num_registers=0)')
    if settings.image_size[0] != settings.image_size[1]:
        lost.append('its images are square (train with one number for img_size)')
    if logit(state_dict, 'logit_bias') is not None:
        lost.append('its logits have no bias (train with the loss InfoNCELoss)')
    if lost:
        raise NotExpressible(
            f'CLIPModel of transformers cannot compute what this model computes: {"; ".join(lost)}. --to open_clip and '
            '--to timm keep everything'
        )


def _weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    image, words = tower(state_dict, 'image_encoder.'), tower(state_dict, 'text_encoder.')
    weights = {
        'vision_model.embeddings.class_embedding': image['cls_token'].flatten(),
        'vision_model.embeddings.position_embedding.weight': positions_with_bias(image)[0],
        'visual_projection.weight': state_dict['image_projection.projection.weight'],
        'text_projection.weight': state_dict['text_projection.projection.weight'],
    }
    if (scale := logit(state_dict, 'logit_scale')) is not None:
        weights['logit_scale'] = scale.reshape(())
    for part, other, blocks in (
        (image, _IMAGE, 'vision_model.encoder.layers.'),
        (words, _TEXT, 'text_model.encoder.layers.'),
    ):
        for name, value in part.items():
            if '.attn.qkv.' in name:
                layer, kind = name.split('.')[1], name.rsplit('.', 1)[1]
                for letter, rows in zip('qkv', value.chunk(3), strict=True):
                    weights[f'{blocks}{layer}.self_attn.{letter}_proj.{kind}'] = rows
            elif new := renamed(name, _BLOCK, other, blocks):
                weights[new] = value
    return weights


def _config(model: Any, settings: Settings) -> dict[str, Any]:
    text = model.text_encoder
    vocab_size = text.token_embedding.num_embeddings
    activation = 'quick_gelu' if settings.quick_gelu else 'gelu'
    return dict(
        architectures=['CLIPModel'],
        model_type='clip',
        projection_dim=settings.embed_dims,
        vision_config=dict(
            hidden_size=settings.width,
            intermediate_size=settings.hidden,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            image_size=settings.image_size[0],
            patch_size=settings.patch_size,
            hidden_act=activation,
            layer_norm_eps=settings.eps,
            projection_dim=settings.embed_dims,
        ),
        text_config=dict(
            hidden_size=text.width,
            intermediate_size=4 * text.width,
            num_hidden_layers=len(text.layers),
            num_attention_heads=text.layers[0].attn.num_heads,
            max_position_embeddings=text.context_length,
            vocab_size=vocab_size,
            hidden_act=activation,
            layer_norm_eps=1e-5,
            projection_dim=settings.embed_dims,
            # The token at which the text tower is pooled: the last of the vocabulary.
            bos_token_id=vocab_size - 2,
            eos_token_id=vocab_size - 1,
            pad_token_id=vocab_size - 1,
        ),
    )


def processor_files(model: Any) -> dict[str, Any]:
    """Content of the files of ``CLIPProcessor``: preprocessing of images, and CLIP's tokenizer as mmseg ships it.

    Raises:
        NotExpressible: If images were resized in a way that ``CLIPImageProcessor`` has not.
    """
    settings = Pixels(**pixels_of(model))
    if settings.resize_mode not in ('shortest', 'squash'):
        raise NotExpressible(
            f'CLIPImageProcessor cannot resize with resize_mode={settings.resize_mode!r}; --to open_clip keeps '
            "'longest', and --to onnx leaves it to you"
        )
    side = settings.image_size[0]
    square = dict(height=side, width=side)
    squash = settings.resize_mode == 'squash'
    pixels = dict(
        image_processor_type='CLIPImageProcessor',
        do_resize=True,
        size=square if squash else dict(shortest_edge=side),
        resample={'bilinear': 2, 'bicubic': 3}[settings.interpolation],
        do_center_crop=not squash,
        crop_size=square,
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=list(settings.mean),
        image_std=list(settings.std),
        do_convert_rgb=True,
    )
    return {'preprocessor_config.json': pixels, **tokenizer_files(model.text_encoder.context_length)}


def tokenizer_files(context_length: int) -> dict[str, Any]:
    """Content of the files of ``CLIPTokenizer``: CLIP's vocabulary and merges, as mmseg ships them."""
    from mmseg.utils.tokenizer import _tokenizer

    # The names that Hugging Face gives to the ids of start and end.
    names = {'<start_of_text>': '<|startoftext|>', '<end_of_text>': '<|endoftext|>'}
    vocabulary = {names.get(token, token): number for token, number in _tokenizer.encoder.items()}
    merges = [' '.join(pair) for pair, _ in sorted(_tokenizer.bpe_ranks.items(), key=lambda item: item[1])]
    special = dict(bos_token='<|startoftext|>', eos_token='<|endoftext|>', unk_token='<|endoftext|>')
    tokenizer = dict(
        tokenizer_class='CLIPTokenizer',
        model_max_length=context_length,
        pad_token='<|endoftext|>',
        do_lower_case=True,
        **special,
    )
    return {
        'vocab.json': vocabulary,
        'merges.txt': '\n'.join(['#version: 0.2', *merges]) + '\n',
        'tokenizer_config.json': tokenizer,
        'special_tokens_map.json': dict(special, pad_token='<|endoftext|>'),
    }
