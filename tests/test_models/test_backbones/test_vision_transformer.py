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
