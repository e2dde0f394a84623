"""Files that are no whole CLIP of two ViT towers: each is named for what it is, with the nearest and the remedy."""

import open_clip
import pytest
import timm
import torch
from torch import nn

from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.models.from_pretrained import from_pretrained

TEXT = dict(context_length=12, vocab_size=60, width=32, heads=2, layers=1)


def clip(**vision):
    settings = dict(dict(image_size=32, width=32, layers=1, head_width=16, patch_size=8), **vision)
    return open_clip.model.CLIP(16, settings, TEXT).state_dict()


def vit(**settings):
    tower = timm.create_model('vit_small_patch16_224', img_size=32, depth=1, embed_dim=32, num_heads=2, **settings)
    return tower.state_dict()


def only(state, tower):
    return {name: value for name, value in state.items() if name.startswith('visual.') == (tower == 'image')}


def bytes_of(state):
    return {name: value.to(torch.int8) if value.ndim == 2 else value for name, value in state.items()}


FILES = {
    'another patch size': (lambda: clip(patch_size=10, image_size=40), 'nearest known tower is .*patch size 10 for 16'),
    'no text tower': (
        lambda: only(clip(), 'image'),
        'has no text tower: its 20 tensors are of an image tower. The nearest known tower .* differs in width 32 for',
    ),
    'no image tower': (lambda: only(clip(), 'text'), 'has no image tower: its .* are of a text tower'),
    'a text tower of Hugging Face, which is no missing one': (
        lambda: only(clip(), 'image') | {'text.transformer.embeddings.word_embeddings.weight': torch.zeros(60, 32)},
        '^(?!.*has no text tower).*transformer.embeddings.word_embeddings.weight. is no weight of a ViT CLIP',
    ),
    'DINOv2': (
        lambda: vit(init_values=1e-5, num_classes=0) | {'mask_token': torch.zeros(1, 32)},
        r"an image tower alone, with layer scale .* DINOv2's .* no text tower.*The nearest known tower is ViT-B-16; it "
        'differs in width 32 for 768, blocks 1 for 12',
    ),
    'MAE': (
        lambda: {'model': vit(num_classes=0) | {'decoder_embed.weight': torch.zeros(8, 32)}},
        'an image tower alone, with a decoder of pixels, as MAE saves it',
    ),
    'a classifier': (vit, "an image tower alone, of timm's or transformers' names"),
    'ResNet CLIP': (lambda: clip(layers=(1, 1, 1, 1), width=8), 'a CLIP with a ResNet as image tower'),
    'LoRA adapters': (
        lambda: {
            f'base_model.model.vision_model.encoder.layers.0.self_attn.q_proj.lora_{part}.weight': torch.zeros(4, 8)
            for part in 'AB'
        },
        r'holds adapters \(LoRA\) alone, 2 tensors, and no model: merge them',
    ),
    'quantized': (lambda: bytes_of(clip()), 'is quantized: .* is int8, of which only its own library knows the scale'),
    'a whole module, pickled': (lambda: nn.Linear(2, 2), 'holds no config of ours: it has weight, bias'),
}


@pytest.mark.parametrize('name', FILES)
def test_a_file_that_fits_no_tower_says_what_it_is(name, tmp_path):
    make, message = FILES[name]
    torch.save(make(), tmp_path / 'odd.pt')
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path / 'odd.pt')


def test_a_model_takes_no_bytes_for_weights(tmp_path):
    """With a config, too: shapes alone would fit."""
    model = nn.Linear(3, 2)
    torch.save({'weight': torch.ones(2, 3, dtype=torch.int8), 'bias': torch.zeros(2)}, tmp_path / 'odd.pt')
    with pytest.raises(ValueError, match='is quantized: weight is int8'):
        load_weights(model, str(tmp_path / 'odd.pt'))
