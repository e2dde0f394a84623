"""Both towers and the logits against open_clip with the same random weights."""

import open_clip
import pytest
import torch

from mmmaskclip.checkpoints.formats.open_clip import convert_open_clip
from mmmaskclip.registry import MODELS


def _ours(arch: str, quick_gelu: bool):
    return MODELS.build(
        dict(
            type='ImageTextPretrainer',
            image_encoder=dict(
                type='CLIPVisionTransformer',
                arch=arch,
                img_size=224,
                pre_norm=True,
                norm_cfg=dict(type='LN', eps=1e-5),
                quick_gelu=quick_gelu,
            ),
            image_projection=dict(type='ImageProjectionHead', in_channels=768, embed_dims=512, pool='cls'),
            text_encoder=dict(type='CLIPTextTransformer', quick_gelu=quick_gelu),
            text_projection=dict(type='TextProjectionHead', in_channels=512, embed_dims=512),
            objectives=dict(contrast=dict(type='ImageTextContrast')),
        )
    ).eval()


@pytest.mark.parametrize(
    ('name', 'arch', 'quick_gelu'),
    [
        ('ViT-B-32', 'ViT-B/32', False),
        ('ViT-B-16', 'ViT-B/16', False),
        ('ViT-B-32-quickgelu', 'ViT-B/32', True),
        ('ViT-B-16-quickgelu', 'ViT-B/16', True),
    ],
)
@torch.no_grad()
def test_towers_and_logits_equal_open_clip(name, arch, quick_gelu):
    theirs = open_clip.create_model(name).eval()
    # open_clip starts biases and norms at constants, which would hide a swapped pair.
    for parameter in theirs.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.02 * torch.randn_like(parameter))
    ours = _ours(arch, quick_gelu)
    assert not any(ours.load_state_dict(convert_open_clip(theirs.state_dict())))

    images = torch.randn(2, 3, 224, 224)
    tokens = open_clip.get_tokenizer(name)(['two dogs run over a wet lawn', 'a red bus'])
    image, text = theirs.encode_image(images, normalize=True), theirs.encode_text(tokens, normalize=True)
    longest = int((tokens != 0).sum(dim=1).max())
    our_image, our_text = ours.encode_image(images), ours.encode_text(tokens[:, :longest])
    torch.testing.assert_close(our_image, image, rtol=0, atol=1e-5)
    torch.testing.assert_close(our_text, text, rtol=0, atol=1e-5)
    logits = theirs.logit_scale.exp() * image @ text.t()
    torch.testing.assert_close(ours.logits(our_image, our_text), logits, rtol=0, atol=1e-5)


def test_resnet_tower_is_refused_by_name():
    with pytest.raises(KeyError, match='visual.layer1.0.conv1.weight'):
        convert_open_clip({'visual.layer1.0.conv1.weight': torch.zeros(1)})
