"""Shipped configs with one layer per tower and the real widths: every part still has to fit its neighbours."""

from mmengine.config import ConfigDict

from mmmaskclip.models.backbones.vision_transformer import ARCHITECTURES


def shrink(model: ConfigDict) -> None:
    """Leave one layer in every tower of a model's config.

    Args:
        model: Changed in place.
    """
    if model.type.startswith('mmpretrain.'):
        base = dict(embed_dims=768, num_layers=1, num_heads=12, feedforward_channels=3072)
        arch = model.backbone.arch
        model.backbone.arch = {**arch, 'num_layers': 1} if isinstance(arch, dict) else base
        if model.type == 'mmpretrain.SimCLR':
            letter, _, patch = arch.removeprefix('ViT-').partition('/')
            model.backbone.update(arch={**ARCHITECTURES[letter], 'num_layers': 1}, patch_size=int(patch))
        return
    for tower in _towers(model):
        if isinstance(tower.arch, str):
            letter, _, patch = tower.arch.removeprefix('ViT-').partition('/')
            tower.update(arch={**ARCHITECTURES[letter], 'num_layers': 1}, patch_size=int(patch))
        elif 'num_layers' in tower.arch:
            tower.arch.num_layers = 1
        if tower.get('frozen_stages'):
            tower.frozen_stages = 1
    if model.text_encoder:
        model.text_encoder.num_layers = 1


def _towers(node):
    """Configs of our image tower, at any depth."""
    if isinstance(node, dict):
        if node.get('type') == 'CLIPVisionTransformer':
            yield node
        for value in node.values():
            yield from _towers(value)
