"""CLIP + MAE: rebuild the pixels of the hidden patches."""

import torch
from torch import Tensor

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective, check_patches
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PixelReconstruction(Objective):
    """Masked autoencoding on the image tower that is shared with the contrastive loss (He et al. 2022; MaskCLIP's
    baseline CLIP+MAE).

    The student encodes the visible patches only; mmpretrain's MAE decoder predicts the pixels, and its MAE head
    compares those of the hidden patches with the image.

    Args:
        decoder: Config of the decoder, ``dict(type='mmpretrain.MAEPretrainDecoder', ...)``. MAE starts its linear
            layers with ``init_cfg=[dict(type='Xavier', layer='Linear', distribution='uniform')]``.
        mask: Config of the mask generator. Defaults to ``RandomMask`` of 75 %.
        norm_pix: Whether the pixels of each patch are brought to mean 0 and deviation 1 first, MAE's better target.
            Defaults to True.
        patch_size: Patch size in pixels, the tower's. Defaults to 16.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If the decoder predicts another number of values than a patch has; in the first step, if it is made
            for another number of patches than the images have.
    """

    per_sample = True
    needs_patches = True

    def __init__(
        self,
        decoder: dict,
        mask: dict | None = None,
        norm_pix: bool = True,
        patch_size: int = 16,
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        self.mask = MODELS.build(mask or dict(type='RandomMask'))
        self.decoder = MODELS.build(decoder)
        if (predicted := self.decoder.decoder_pred.out_features) != 3 * patch_size**2:
            raise ValueError(
                f'the decoder predicts {predicted} values for each patch, but patch_size={patch_size} makes '
                f"{3 * patch_size**2}: give the tower's patch size to the decoder and to the objective"
            )
        self.head = MODELS.build(
            dict(
                type='mmpretrain.MAEPretrainHead',
                loss=dict(type='mmpretrain.PixelReconstructionLoss', criterion='L2'),
                norm_pix=norm_pix,
                patch_size=patch_size,
            )
        )

    def forward(self, views: Views) -> dict[str, Tensor]:
        check_patches(views, self.decoder.num_patches)
        mask = views.mask(self.mask)
        features = views.visible_features(mask.visible)
        tokens = torch.cat((features.cls.unsqueeze(1), features.patches), dim=1)  # (B, 1 + K, C)
        predicted = self.decoder(tokens, mask.restore)  # (B, N, 3 p p) for patches of p x p pixels
        return {'loss': self.head.loss(predicted, views.images(), mask.hidden.float())}
