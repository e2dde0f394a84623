import pytest
import torch

from mmmaskclip.models.backbones import CLIPVisionTransformer, gather_tokens

TINY = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)


@pytest.fixture
def tower():
    tower = CLIPVisionTransformer(TINY, patch_size=8, img_size=32)
    tower.init_weights()
    return tower.eval()


@pytest.mark.parametrize(
    ('arch', 'millions'),
    # Parameter counts of timm's vit_{tiny,small,base,base,large} without classifier.
    [('ViT-Ti/16', 5.52), ('ViT-S/16', 21.67), ('ViT-B/32', 87.46), ('ViT-B/16', 85.80), ('ViT-L/14', 303.18)],
)
def test_architectures_by_name(arch, millions):
    with torch.device('meta'):
        tower = CLIPVisionTransformer(arch, img_size=224)
    assert sum(p.numel() for p in tower.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_unknown_arch_and_patch_size_are_named():
    with pytest.raises(ValueError, match="'ViT-H/14' is unknown"):
        CLIPVisionTransformer('ViT-H/14')
    with pytest.raises(ValueError, match='patch_size=32 contradicts'):
        CLIPVisionTransformer('ViT-B/16', patch_size=32)
    with pytest.raises(ValueError, match='patch_size is missing'):
        CLIPVisionTransformer(TINY)


def test_all_patches_visible_equals_the_full_pass(tower):
    tokens, grid = tower.embed(torch.randn(2, 3, 32, 32))
    full = tower.encode(tokens)
    order = torch.stack([torch.randperm(16) for _ in range(2)])
    shuffled = tower.encode(tokens, order)
    assert grid == (4, 4)
    torch.testing.assert_close(shuffled.cls, full.cls)
    torch.testing.assert_close(shuffled.patches, gather_tokens(full.patches, order))


def test_hidden_patches_have_no_influence(tower):
    images = torch.randn(1, 3, 32, 32)
    visible = torch.tensor([[0, 5, 10]])
    before = tower.encode(tower.embed(images)[0], visible)
    images[:, :, 8:16, :8] = 7.0  # patch 4, hidden
    torch.testing.assert_close(tower.encode(tower.embed(images)[0], visible).patches, before.patches)
    images[:, :, 8:16, 8:16] = 7.0  # patch 5, visible
    assert not torch.allclose(tower.encode(tower.embed(images)[0], visible).patches, before.patches)
    assert before.patches.shape == (1, 3, 32)


def test_only_visible_tokens_reach_the_blocks(tower):
    lengths = []
    tower.layers[0].register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    tower.encode(tower.embed(torch.randn(1, 3, 32, 32))[0], torch.tensor([[0, 5, 10]]))
    assert lengths == [1 + 3]


def test_features_equal_mmpretrains_forward(tower):
    images = torch.randn(2, 3, 32, 32)
    tower.out_type = 'raw'
    features = tower.features(images)
    torch.testing.assert_close(torch.cat((features.cls.unsqueeze(1), features.patches), 1), tower(images)[-1])


def test_other_image_sizes_interpolate_positions(tower):
    tokens, grid = tower.embed(torch.randn(1, 3, 48, 40))
    assert grid == (6, 5)
    assert tokens.shape == (1, 30, 32)


def test_pre_norm_belongs_to_the_stem():
    tower = CLIPVisionTransformer(TINY, patch_size=8, img_size=32, pre_norm=True)
    assert tower.get_layer_depth('backbone.pre_norm.weight', 'backbone.') == (0, 4)
    assert tower.get_layer_depth('backbone.layers.1.ln1.weight', 'backbone.') == (2, 4)
    assert tower.get_layer_depth('backbone.ln1.weight', 'backbone.') == (3, 4)


@pytest.fixture
def with_registers():
    def build(**kwargs):
        tower = CLIPVisionTransformer(TINY, patch_size=8, img_size=32, num_registers=3, **kwargs)
        tower.init_weights()
        return tower.eval()

    return build


def test_registers_are_tokens_of_the_blocks_but_of_no_output(with_registers):
    tower, lengths = with_registers(), []
    tower.layers[0].register_forward_hook(lambda _, inputs, __: lengths.append(inputs[0].shape[1]))
    tokens, _ = tower.embed(torch.randn(2, 3, 32, 32))
    assert tower.encode(tokens).patches.shape == (2, 16, 32)
    assert tower.encode(tokens, torch.tensor([[0, 5, 10]] * 2)).patches.shape == (2, 3, 32)
    assert lengths == [1 + 3 + 16, 1 + 3 + 3]


def test_registers_take_part(with_registers):
    tower = with_registers()
    tokens, _ = tower.embed(torch.randn(1, 3, 32, 32))
    before = tower.encode(tokens).patches
    (before @ torch.randn(32)).sum().backward()
    assert tower.registers.grad.abs().sum(-1).gt(0).all()
    with torch.no_grad():
        tower.registers[0, 1] += torch.randn(32)
    assert not torch.allclose(tower.encode(tokens).patches, before)


def test_patches_stay_equivariant_with_registers(with_registers):
    """A register in the place of a patch would move with the order of the patches."""
    tower = with_registers()
    tokens, _ = tower.embed(torch.randn(2, 3, 32, 32))
    full = tower.encode(tokens)
    order = torch.stack([torch.randperm(16) for _ in range(2)])
    torch.testing.assert_close(tower.encode(tokens, order).patches, gather_tokens(full.patches, order))


@pytest.mark.parametrize('out_type', ['raw', 'cls_token', 'featmap', 'avg_featmap'])
@pytest.mark.parametrize('size', [32, 48])
def test_mmpretrains_outputs_with_registers(with_registers, out_type, size):
    tower = with_registers(out_type=out_type, out_indices=[0, 1])
    images = torch.randn(2, 3, size, size)
    features = tower.features(images)
    expected = dict(
        raw=lambda: torch.cat((features.cls.unsqueeze(1), features.patches), 1),
        cls_token=lambda: features.cls,
        featmap=lambda: features.patches.transpose(1, 2).unflatten(2, (size // 8, size // 8)),
        avg_featmap=lambda: tower.ln2(features.patches.mean(1)),
    )[out_type]()
    first, last = tower(images)
    assert first.shape == last.shape
    torch.testing.assert_close(last, expected)


def test_a_tower_without_registers_loads_into_one_with_them_but_for_the_registers(tower, with_registers):
    with_them = with_registers()
    assert with_them.load_state_dict(tower.state_dict(), strict=False).missing_keys == ['registers']
    assert with_them.get_layer_depth('backbone.registers', 'backbone.') == (0, 4)
    assert not CLIPVisionTransformer(
        TINY, patch_size=8, img_size=32, num_registers=3, frozen_stages=1
    ).registers.requires_grad


def test_a_frozen_tower_has_the_same_features_in_training():
    tiny = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
    tower = CLIPVisionTransformer(tiny, patch_size=8, img_size=32, frozen_stages=3, drop_path_rate=0.9, drop_rate=0.5)
    images = torch.randn(4, 3, 32, 32)
    tower.train()
    assert torch.equal(tower.features(images).patches, tower.features(images).patches)
    thawed = CLIPVisionTransformer(tiny, patch_size=8, img_size=32, drop_path_rate=0.9).train()
    assert not torch.equal(thawed.features(images).patches, thawed.features(images).patches)
