import copy

import pytest
import torch
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing

from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.backbones.windows import attend_in_windows

ARCH = dict(embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)


def build(window_size, img_size=32, **kwargs):
    torch.manual_seed(0)
    if window_size:
        kwargs.setdefault('global_blocks', (3,))
    tower = CLIPVisionTransformer(
        ARCH, patch_size=8, img_size=img_size, window_size=window_size, out_type='raw', **kwargs
    )
    tower._init_randomly()
    torch.nn.init.normal_(tower.pos_embed)
    return tower.eval()


def reference(attention, x, grid, size):
    """As the contract says: pad the grid to whole windows, mask the padding, average the extra tokens' copies."""
    (rows, columns), channels, heads = grid, x.shape[-1], attention.num_heads
    num_extra = x.shape[1] - rows * columns
    result, copies = torch.zeros_like(x), []
    for image in range(len(x)):
        for top in range(0, rows, size):
            for left in range(0, columns, size):
                cells = [(top + i, left + j) for i in range(size) for j in range(size)]
                real = [r < rows and c < columns for r, c in cells]
                where = [num_extra + (r * columns + c if ok else 0) for (r, c), ok in zip(cells, real, strict=True)]
                tokens = x[image, [*range(num_extra), *where]]
                tokens[num_extra:][~torch.tensor(real)] = 7.0  # padding, which must not matter
                q, k, v = attention.qkv(tokens).view(-1, 3, heads, channels // heads).permute(1, 2, 0, 3)
                logits = q @ k.transpose(1, 2) / (channels // heads) ** 0.5
                logits[:, :, num_extra:][:, :, ~torch.tensor(real)] = -torch.inf
                mixed = (logits.softmax(-1) @ v).transpose(0, 1).flatten(1)
                for index, ok, value in zip(where, real, mixed[num_extra:], strict=True):
                    if ok:
                        result[image, index] = value
                copies.append((image, mixed[:num_extra]))
        result[image, :num_extra] = torch.stack([value for of, value in copies if of == image]).mean(0)
    return attention.proj(result)


@pytest.mark.parametrize('num_extra', [1, 3])
@pytest.mark.parametrize(
    ('grid', 'size'), [((4, 6), 2), ((5, 7), 3), ((2, 7), 3), ((5, 3), 4), ((3, 2), 5), ((2, 2), 1)]
)
def test_attention_equals_padded_and_masked_windows(grid, size, num_extra):
    attention = build(2).layers[0].attn
    x = torch.randn(2, num_extra + grid[0] * grid[1], 32)
    torch.testing.assert_close(attend_in_windows(attention, x, grid, size), reference(attention, x, grid, size))


@pytest.mark.parametrize('registers', [0, 2])
def test_a_window_as_large_as_the_grid_is_global_attention(registers):
    images = torch.randn(2, 3, 32, 32)
    windowed, plain = build(4, num_registers=registers), build(None, num_registers=registers)
    assert windowed.state_dict().keys() == plain.state_dict().keys()
    torch.testing.assert_close(windowed(images)[-1], plain(images)[-1])
    smaller = build(3, num_registers=registers)
    assert not torch.allclose(smaller(images)[-1], plain(images)[-1])


def test_pretrainings_pass_has_no_windows():
    images = torch.randn(2, 3, 32, 32)
    windowed, plain = build(2), build(None)
    torch.testing.assert_close(windowed.features(images).patches, plain.features(images).patches)


def test_another_window_has_no_influence():
    tower = build(2, global_blocks=())
    tower.out_indices = [0]
    images = torch.randn(1, 3, 40, 48)  # 5 x 6 patches
    before = tower(images)[0][:, 1:].unflatten(1, (5, 6))
    images[:, :, :16, :16] = 3.0
    changed = (tower(images)[0][:, 1:].unflatten(1, (5, 6)) - before).abs().amax(-1)[0] > 1e-6
    assert changed[:2, :2].all()
    assert changed.sum() == 4


def test_default_and_chosen_global_blocks():
    assert CLIPVisionTransformer('ViT-Ti/16', window_size=14).windowed == {0, 1, 3, 4, 6, 7, 9, 10}
    assert build(2, global_blocks=(0, 3)).windowed == {1, 2}
    assert not build(None).windowed


def test_wrong_settings_are_named():
    for kwargs, message in (
        (dict(window_size=0), 'window_size=0 must be'),
        (dict(window_size=2, global_blocks=(3, 4)), r'global_blocks \[4\] are no blocks'),
        (dict(window_size=None, global_blocks=(1,)), 'without window_size'),
        (dict(window_size=2, with_cls_token=False), 'with_cls_token=False'),
    ):
        with pytest.raises(ValueError, match=message):
            build(**kwargs)


def test_drop_path_drops_an_image_not_a_window():
    tower = build(2, drop_path_rate=0.5).train()
    attention = tower.layers[3].attn
    added = attend_in_windows(attention, torch.randn(32, 17, 32), (4, 4), 2)
    dropped = (added == 0).all(-1)
    assert torch.equal(dropped.any(1), dropped.all(1))
    assert 0 < dropped.all(1).sum() < 32


def test_activation_checkpointing_and_copies_keep_the_windows():
    tower = build(2)
    images = torch.randn(2, 3, 40, 40)
    tower(images)[-1].square().sum().backward()
    gradient = tower.patch_embed.projection.weight.grad.clone()
    checkpointed = copy.deepcopy(tower)
    checkpointed.zero_grad()
    turn_on_activation_checkpointing(checkpointed, [f'layers.{index}' for index in range(4)])
    checkpointed(images)[-1].square().sum().backward()
    torch.testing.assert_close(checkpointed.patch_embed.projection.weight.grad, gradient)
