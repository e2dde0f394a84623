import pytest
import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer

from mmmaskclip.models.backbones import CLIPTextTransformer, CLIPVisionTransformer
from mmmaskclip.models.backbones.transformer_block import (
    CausalBlock,
    TransformerBlock,
    gather_tokens,
    share_drop_paths,
)


@pytest.mark.parametrize('options', [{}, dict(drop_path_rate=0.5), dict(layer_scale_init_value=0.1, drop_rate=0.3)])
def test_bits_of_outputs_and_gradients_are_mmpretrains(options):
    theirs, ours = (kind(16, 4, 32, **options) for kind in (TransformerEncoderLayer, TransformerBlock))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict(theirs.state_dict())
    share_drop_paths(ours)
    results = []
    for block in (theirs, ours):
        torch.manual_seed(1)
        x = torch.randn(3, 7, 16, requires_grad=True)
        y = block(x)
        (y * torch.randn_like(y)).sum().backward()
        results.append([y, x.grad, *(p.grad for p in block.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_causal_block_does_not_look_ahead():
    block = CausalBlock(16, 4, 32)
    x = torch.randn(2, 5, 16)
    changed = x.clone()
    changed[:, 3:] += 1
    torch.testing.assert_close(block(changed)[:, :3], block(x)[:, :3], rtol=0, atol=0)
    assert not torch.allclose(TransformerBlock.forward.__get__(_twin(block))(changed)[:, :3], block(x)[:, :3])


def _twin(block):
    twin = TransformerBlock(16, 4, 32)
    twin.load_state_dict(block.state_dict())
    return twin


def test_some_queries_give_the_outputs_of_these_tokens():
    block, x, queries = TransformerBlock(16, 4, 32), torch.randn(2, 6, 16), torch.tensor([[4, 0], [1, 5]])
    torch.testing.assert_close(block(x, queries), gather_tokens(block(x), queries))


_ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


def _image_tower(residual_dtype, **options):
    return CLIPVisionTransformer(_ARCH, patch_size=8, img_size=32, residual_dtype=residual_dtype, **options)


def _text_tower(residual_dtype, **options):
    return CLIPTextTransformer(16, 2, 2, vocab_size=100, residual_dtype=residual_dtype, **options)


def _images(tower):
    pictures = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(tower.pos_embed.device)
    visible = torch.tensor([[0, 3, 5], [1, 2, 7]], device=tower.pos_embed.device)
    return tower.encode(tower.embed(pictures)[0], visible).cls


def _captions(tower):
    return tower(torch.tensor([[5, 7, 99, 0], [3, 99, 0, 0]], device=tower.pos_embed.device), [2, 1])


@pytest.mark.parametrize(
    ('make', 'run', 'options'),
    [
        (_image_tower, _images, {}),
        (_image_tower, _images, dict(pre_norm=True, num_registers=2)),
        (_text_tower, _captions, {}),
        (_text_tower, _captions, dict(packed=True)),
    ],
)
def test_residual_stream_is_rounded_under_a_bfloat16_autocast_alone(make, run, options):
    exact, rounded = make(None, **options), make('bf16', **options)
    exact.init_weights()
    rounded.load_state_dict(exact.state_dict())
    streams = {}
    for name, tower in (('exact', exact), ('rounded', rounded)):
        for layer in tower.layers:
            layer.register_forward_hook(lambda _, __, out, name=name: streams.setdefault(name, []).append(out.dtype))
    assert torch.equal(run(rounded), run(exact))
    with torch.autocast('cpu', torch.float16):
        assert torch.equal(run(rounded), run(exact))
    with torch.autocast('cpu', torch.bfloat16):  # as the check of shapes before a run
        assert run(make('bf16', **options).to('meta')).is_meta
    streams.clear()
    with torch.autocast('cpu', torch.bfloat16):
        torch.testing.assert_close(run(rounded).float(), run(exact).float(), rtol=0.05, atol=0.05)
    assert streams == dict(exact=[torch.float32] * 2, rounded=[torch.bfloat16] * 2)


@pytest.mark.parametrize('make', [_image_tower, _text_tower])
def test_another_residual_dtype_is_refused(make):
    with pytest.raises(ValueError, match="residual_dtype='fp16': choose None or 'bf16'"):
        make('fp16')
