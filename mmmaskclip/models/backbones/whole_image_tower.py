"""Any image backbone as image tower, for methods that look at whole images."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class WholeImageTower(BaseModule):
    """A backbone of mmpretrain, timm, torchvision or elsewhere as image tower of CLIP, SigLIP, UniCL or SLIP.

    The cells of its last feature map are the patches, and their mean takes the place of the class token. Masked methods
    need a tower that encodes a part of its patches (:class:`~mmmaskclip.contracts.ImageTower`) and refuse this one.

    Args:
        backbone: Config of the backbone: ``dict(type='mmpretrain.ResNet', depth=50)``,
            ``dict(type='mmpretrain.TIMMBackbone', model_name='convnext_tiny')``,
            ``dict(type='torchvision.models.resnet18', num_classes=512)``. It may return a feature map (B, C, h, w),
            tokens (B, N, C), a vector (B, C), or a sequence of these, of which the last counts.

    Raises:
        ValueError: In the first forward pass, if the backbone returns something else.
    """

    def __init__(self, backbone: dict, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.backbone = MODELS.build(backbone)

    def train(self, mode: bool = True) -> 'WholeImageTower':
        """Set the mode and return the tower, which mmpretrain's backbones do not."""
        super().train(mode)
        return self

    def features(self, images: Tensor) -> ImageFeatures:
        """Features of images (B, 3, H, W): one patch per cell of the last map, and their mean as class token."""
        output = self.backbone(images)
        while isinstance(output, (tuple, list)) and output:
            output = output[-1]
        patches = _to_patches(output, type(self.backbone).__name__)  # (B, N, C)
        return ImageFeatures(cls=patches.mean(dim=1), patches=patches)

    def forward(self, images: Tensor) -> Any:
        """The backbone's own output."""
        return self.backbone(images)


def _to_patches(output: Any, name: str) -> Tensor:
    shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
        raise ValueError(
            f'WholeImageTower.backbone={name} returns {shape}: an image tower needs a feature map (B, C, h, w), tokens '
            '(B, N, C) or a vector (B, C)'
        )
    if output.ndim == 4:
        return output.flatten(2).transpose(1, 2)
    return output if output.ndim == 3 else output.unsqueeze(1)


def check_tower(tower: Any, objectives: dict[str, Any]) -> None:
    """Refuse an image tower without the methods that the objectives call.

    Args:
        tower: The image tower.
        objectives: Objectives by name.

    Raises:
        ValueError: Names the tower, the missing methods, who needs them and the remedy.
    """
    by_method = {
        method: [name for name, objective in objectives.items() if method == 'features' or objective.needs_patches]
        for method in ('features', 'embed', 'positions', 'encode')
    }
    missing = [name for name in by_method if by_method[name] and not callable(getattr(tower, name, None))]
    if not missing:
        return
    remedy = (
        "wrap the backbone, image_encoder=dict(type='WholeImageTower', backbone=dict(...))"
        if missing[0] == 'features' and not by_method['embed']
        else 'take CLIPVisionTransformer, or leave these objectives out'
    )
    raise ValueError(
        f'image_encoder={type(tower).__name__} has no {", ".join(missing)}, which {", ".join(by_method[missing[0]])} '
        f'needs (the contract is mmmaskclip.contracts.ImageTower): {remedy}'
    )
