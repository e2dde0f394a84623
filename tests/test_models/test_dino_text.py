"""DINOv3's text-aligned ViT from Meta's files, in small: the ViT equals timm's; what no library has, torch.nn's."""

import inspect

import numpy as np
import pytest
import timm
import torch
from exported import assert_traces_equal
from mmengine.config import Config
from paths import CONFIGS
from read_out_references import REFERENCES, TimmReference, blocks_input
from timm.models.eva import checkpoint_filter_fn
from torch import nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.dino_text import dino_text_config
from mmmaskclip.checkpoints.export.folder import export_folder
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.checkpoints.odd_files import refuse_parts
from mmmaskclip.checkpoints.translate import convert_weights
from mmmaskclip.contracts import patch_part
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.models.heads import ClassAndPatchesProjectionHead
from mmmaskclip.models.open_vocabulary import encode_classes
from mmmaskclip.registry import MODELS

HEAD = 'dinov3_vitl16_dinotxt_vision_head_and_text_encoder-00000000.pth'
BACKBONE = 'dinov3_vitl16_pretrain_lvd1689m-00000000.pth'
WIDTH, WORDS = 128, 49408


def block_shapes(prefix, width, names):
    hidden = 4 * width
    swiglu = -(-int(hidden * 2 / 3) // 64) * 64
    known = {
        'norm': {'weight': (width,), 'bias': (width,)},
        'gamma': {'gamma': (width,)},
        'qkv': {'weight': (3 * width, width)},
        'qkvb': {'weight': (3 * width, width), 'bias': (3 * width,), 'bias_mask': (3 * width,)},
        'square': {'weight': (width, width), 'bias': (width,)},
        'wider': {'weight': (hidden, width), 'bias': (hidden,)},
        'narrower': {'weight': (width, hidden), 'bias': (width,)},
        'swiglu': {'weight': (swiglu, width), 'bias': (swiglu,)},
        'swiglu out': {'weight': (width, swiglu), 'bias': (width,)},
    }
    return {f'{prefix}{name}.{part}': shape for name, kind in names.items() for part, shape in known[kind].items()}


VIT = {'norm1': 'norm', 'norm2': 'norm', 'ls1': 'gamma', 'ls2': 'gamma', 'attn.proj': 'square'}
TRUNK = VIT | {'attn.qkv': 'qkvb', 'mlp.fc1': 'wider', 'mlp.fc2': 'narrower'}
TOP = VIT | {'attn.qkv': 'qkv', 'mlp.w1': 'swiglu', 'mlp.w2': 'swiglu', 'mlp.w3': 'swiglu out'}
TEXT = {
    'attention_norm': 'norm', 'ffn_norm': 'norm', 'attention.qkv': 'qkv', 'attention.proj': 'square',
    'feed_forward.fc1': 'wider', 'feed_forward.fc2': 'narrower',
}  # fmt: skip


@pytest.fixture(scope='module')
def files():
    """Random weights under the names of Meta's two files: backbone; vision head and text."""
    head = {'logit_scale': (1,), 'text_model.head.linear_projection.weight': (2 * WIDTH, WIDTH)}
    backbone = {
        'cls_token': (1, 1, WIDTH), 'storage_tokens': (1, 4, WIDTH), 'mask_token': (1, WIDTH),
        'rope_embed.periods': (16,), 'patch_embed.proj.weight': (WIDTH, 3, 16, 16), 'patch_embed.proj.bias': (WIDTH,),
    }  # fmt: skip
    for index in range(2):
        backbone |= block_shapes(f'blocks.{index}.', WIDTH, TRUNK)
        head |= block_shapes(f'visual_model.head.blocks.{index}.', WIDTH, TOP)
        head |= block_shapes(f'text_model.backbone.blocks.{index}.', WIDTH, TEXT)
    backbone |= block_shapes('', WIDTH, {'norm': 'norm'})
    for tower in ('visual_model.head', 'text_model.backbone'):
        head |= block_shapes(f'{tower}.', WIDTH, {'ln_final': 'norm'})
    head['text_model.backbone.token_embedding.weight'] = (WORDS, WIDTH)
    head['text_model.backbone.positional_embedding'] = (77, WIDTH)
    generator = torch.Generator().manual_seed(0)

    def fill(name, shape):
        value = 0.1 * torch.randn(shape, generator=generator)
        if 'gamma' in name or ('norm' in name or 'ln_final' in name) and name.endswith('weight'):
            value += 1
        return value

    filled = [{name: fill(name, shape) for name, shape in part.items()} for part in (backbone, head)]
    for name, value in filled[0].items():
        if name.endswith('qkv.bias'):
            value[WIDTH : 2 * WIDTH] = 0  # What the mask leaves of the keys' bias.
    return filled


@pytest.fixture(scope='module')
def model(files, tmp_path_factory):
    folder = tmp_path_factory.mktemp('dinov3')
    torch.save(files[0], folder / BACKBONE)
    torch.save(files[1], folder / HEAD)
    return from_pretrained(folder / HEAD).model


IMAGES = torch.randn(2, 3, 48, 64, generator=torch.Generator().manual_seed(1))


def attention(weights, prefix, output, width=WIDTH):
    layer = nn.MultiheadAttention(width, width // 64, batch_first=True)
    layer.in_proj_weight.copy_(weights[f'{prefix}.qkv.weight'])
    layer.in_proj_bias.zero_()
    layer.out_proj.weight.copy_(weights[f'{prefix}.{output}.weight'])
    layer.out_proj.bias.copy_(weights[f'{prefix}.{output}.bias'])
    return layer


def norm(weights, name, x):
    return F.layer_norm(x, x.shape[-1:], weights[f'{name}.weight'], weights[f'{name}.bias'])


def linear(weights, name, x):
    return F.linear(x, weights[f'{name}.weight'], weights[f'{name}.bias'])


def vision_head(weights, x):
    for index in range(2):
        name = f'visual_model.head.blocks.{index}'
        normed = norm(weights, f'{name}.norm1', x)
        x = x + attention(weights, f'{name}.attn', 'proj')(normed, normed, normed)[0] * weights[f'{name}.ls1.gamma']
        normed = norm(weights, f'{name}.norm2', x)
        hidden = F.silu(linear(weights, f'{name}.mlp.w1', normed)) * linear(weights, f'{name}.mlp.w2', normed)
        x = x + linear(weights, f'{name}.mlp.w3', hidden) * weights[f'{name}.ls2.gamma']
    return norm(weights, 'visual_model.head.ln_final', x)


def text_tower(weights, ids):
    name = 'text_model.backbone'
    x = weights[f'{name}.token_embedding.weight'][ids] + weights[f'{name}.positional_embedding'][: ids.shape[1]]
    later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
    for index in range(2):
        block = f'{name}.blocks.{index}'
        normed = norm(weights, f'{block}.attention_norm', x)
        x = x + attention(weights, f'{block}.attention', 'proj')(normed, normed, normed, attn_mask=later)[0]
        normed = norm(weights, f'{block}.ffn_norm', x)
        hidden = F.gelu(linear(weights, f'{block}.feed_forward.fc1', normed))
        x = x + linear(weights, f'{block}.feed_forward.fc2', hidden)
    ends = norm(weights, f'{name}.ln_final', x)[torch.arange(len(ids)), ids.argmax(1)]
    return ends @ weights['text_model.head.linear_projection.weight'].T


@torch.no_grad()
def test_towers_equal_timm_and_torch(files, model):
    """timm has the ViT, and its own translation of Meta's names; no library has the rest."""
    backbone, head = files
    vit = timm.create_model(
        'vit_large_patch16_dinov3_qkvb', embed_dim=WIDTH, depth=2, num_heads=2, num_classes=0, dynamic_img_size=True
    ).eval()
    vit.load_state_dict(checkpoint_filter_fn(dict(backbone), vit))
    tokens = vision_head(head, vit.forward_features(IMAGES))
    close = dict(rtol=0, atol=1e-5)
    images = F.normalize(torch.cat((tokens[:, 0], tokens[:, 5:].mean(1)), -1), dim=-1)
    torch.testing.assert_close(model.encode_image(IMAGES), images, **close)
    torch.testing.assert_close(model.image_encoder.dense(IMAGES)[0], tokens[:, 5:], **close)
    assert torch.equal(model.image_encoder.features(IMAGES).patches, model.image_encoder.dense(IMAGES)[0])
    patches = model.encode_dense(IMAGES).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches, F.normalize(tokens[:, 5:], dim=-1), **close)
    ids = torch.stack([F.pad(one, (0, 77 - len(one))) for one in model.tokenize(['a dog', 'two red buses on a road'])])
    texts = F.normalize(text_tower(head, ids), dim=-1)
    torch.testing.assert_close(model.encode_text(ids), texts, **close)
    scale = head['logit_scale'].exp()
    torch.testing.assert_close(model.logits(images, texts), scale * images @ texts.T, **close)


@torch.no_grad()
def test_patches_are_compared_with_half_of_a_text(files, model):
    """As DINOv3's notebook does it: the half of every prompt is normalized, their mean is taken, and normalized."""
    templates = ['a {}', 'a photo of the {}']
    ids = torch.stack(
        [F.pad(one, (0, 77 - len(one))) for one in model.tokenize([each.format('cat') for each in templates])]
    )
    halves = F.normalize(text_tower(files[1], ids)[:, WIDTH:], dim=-1)
    expected = F.normalize(halves.mean(0), dim=-1)
    found = encode_classes(model, ['cat'], templates, for_patches=True)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert encode_classes(model, ['cat'], templates).shape == (1, 2 * WIDTH)
    whole = F.normalize(torch.randn(3, 8), dim=-1)
    assert patch_part(whole, 8) is whole
    assert patch_part(whole, None) is whole


class Reference(TimmReference):
    """The two lists of blocks as one; the ViT's norm ends its last block, and the blocks above are not rotated."""

    final = 'top_norm'

    def __init__(self, tower, grid):
        weights = {name: value.detach().double().numpy() for name, value in tower.state_dict().items()}
        self.weights = {}
        for name, value in weights.items():
            name = name.replace('trunk.', '').replace('top_blocks.0', 'blocks.2').replace('top_blocks.1', 'blocks.3')
            self.weights[name.replace('gamma_1', 'ls1.gamma').replace('gamma_2', 'ls2.gamma')] = value
        self.heads, self.extra, self.after, self.below = 2, 5, False, True
        self.rotation = tower._rotation(grid).double().numpy()

    def norm(self, x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x * self.weights[f'{name}.weight'] + self.weights[f'{name}.bias']

    def rotate(self, x, extra):
        """DINOv3's planes have a channel of either half as their sides."""
        if not self.below:
            return x
        sines, cosines = np.split(self.rotation, 2, axis=-1)
        turned, part = x.copy(), x[:, extra:]
        first, second = np.split(part, 2, axis=-1)
        turned[:, extra:] = part * cosines + np.concatenate((-second, first), axis=-1) * sines
        return turned

    def qkv(self, x, layer, patches_only=False):
        self.below = layer < 2
        return super().qkv(x, layer, patches_only)

    def block(self, x, layer, attention=None):
        x = super().block(x, layer, attention)
        return self.norm(x, 'norm') if layer == 1 else x


@torch.no_grad()
def test_read_outs_equal_the_formulas(model):
    tower = model.image_encoder
    (x,) = blocks_input(tower, IMAGES[:1])
    for name, reference in REFERENCES.items():
        found, grid = tower.dense(IMAGES[:1], name)
        expected = reference(Reference(tower, grid), x, grid)
        np.testing.assert_allclose(found[0].numpy(), expected, atol=5e-5, rtol=1e-3, err_msg=name)


def test_objectives_of_patches_take_their_half(files):
    """Regions against crops and patches pooled by captions: losses of patches of half of the embedding's size."""
    weights = {f'visual_model.backbone.{name}': value for name, value in files[0].items()} | files[1]
    config = dino_text_config(convert_weights(weights, 'both.pth'))
    config['image_encoder'] |= dict(depth=1, frozen=True)
    config['text_encoder'] |= dict(num_layers=1)
    config['objectives'] |= dict(
        regions=dict(type='RegionCropDistillation', num_regions=1), local=dict(type='TextPooledContrast')
    )
    model = MODELS.build(config)
    model.init_weights()
    batch = dict(image=IMAGES[..., :48], tokens=torch.tensor([[1, 5, WORDS - 1], [1, 7, WORDS - 1]]))
    losses = model(mode='loss', **batch, seed=torch.tensor([1, 2]))
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    assert {'regions_loss', 'local_loss', 'contrast_loss'} <= losses.keys()
    assert model.image_encoder.trunk.cls_token.grad is None
    assert all(parameter.grad.isfinite().all() for parameter in model.image_encoder.top_blocks.parameters())


def settings_of(part):
    defaults = inspect.signature(MODELS.get(part['type'])).parameters
    return {key: value for key, value in dict(part).items() if key not in defaults or defaults[key].default != value}


def test_the_shipped_config_is_that_of_its_weights():
    shipped = Config.fromfile(CONFIGS / 'pretrained/dinov3_text_vitl16.py').model
    assert (shipped.image_encoder.depth, shipped.text_encoder.num_layers) == (24, 24)
    # Of which two and one are enough.
    shipped.image_encoder.depth, shipped.text_encoder.num_layers = 2, 1
    with torch.device('meta'):
        weights = MODELS.build(shipped).state_dict()
    assert weights['image_encoder.top_blocks.1.mlp.fc1_g.weight'].shape == (2752, 1024)
    told = dino_text_config(weights)
    for part in ('data_preprocessor', 'image_encoder', 'image_projection', 'text_encoder', 'text_projection'):
        assert settings_of(shipped[part]) == settings_of(told[part]), part


def test_what_is_missing_is_named(files, tmp_path):
    backbone, head = files
    refuse_parts(head, HEAD)
    with pytest.raises(ValueError, match=r'vision head and the text encoder of dino.txt alone.*there is none'):
        convert_weights(head, tmp_path / HEAD)
    for name in ('dinov3_vits16_pretrain_a.pth', 'dinov3_vitl16_pretrain_b.pth'):
        torch.save(backbone, tmp_path / name)
    with pytest.raises(
        ValueError, match='no other of that name: there are dinov3_vitl16_pretrain_b.pth, dinov3_vits16'
    ):
        convert_weights(head, tmp_path / HEAD)
    whole = {f'visual_model.backbone.{name}': value for name, value in backbone.items()} | head
    lost = {name: value for name, value in whole.items() if not name.startswith('text_model.backbone.')}
    with pytest.raises(ValueError, match='token_embedding.weight is missing: the text tower of dino.txt is needed'):
        convert_weights(lost, 'whole.pth')
    with pytest.raises(ValueError, match="'visual_model.head.else' is no weight of DINOv3's text-aligned ViT"):
        convert_weights({**whole, 'visual_model.head.else': torch.zeros(1)}, 'whole.pth')
    with pytest.raises(ValueError, match='embed_dims=5: class token and patches take a half each'):
        ClassAndPatchesProjectionHead(4, 5)


@torch.no_grad()
def test_exports_are_graphs_alone(model, tmp_path):
    """No other library has the blocks on top."""
    for to, message in (
        ('open_clip', r'OpenCLIP has no tower with 2 further blocks on top .*--to onnx and --to torchscript'),
        ('timm', r'timm has no tower with 2 further blocks on top .*--to onnx and --to torchscript'),
        ('transformers', 'CLIPModel of transformers cannot compute'),
    ):
        with pytest.raises(NotExpressible, match=message):
            export_folder(model, to, tmp_path / 'a')
    assert_traces_equal(model, tmp_path, 'naclip')
