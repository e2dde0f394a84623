"""CLIP + BEiT: predict the image codes of the hidden patches."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.backbones import gather_tokens
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class VisualTokenPrediction(Objective):
    """BEiT's masked image modeling on the image tower that is shared with the contrastive loss (Bao et al. 2022;
    MaskCLIP's baseline CLIP+BEiT).

    The student encodes all patches, the hidden ones replaced by a learned mask token with their positions; a linear
    head predicts each hidden patch's image code. mmpretrain's ``BEiTV1Head`` picks patches by a boolean mask, which
    makes the host wait for the device in every step, hence a head of ours.

    Args:
        tokenizer: Config of the visual tokenizer, e.g. ``dict(type='DALLETokenizer', checkpoint='path')``.
        in_channels: Width C of the image tower.
        num_codes: Number of image codes of the tokenizer. Defaults to 8192, DALL-E's.
        mask: Config of the mask generator. Defaults to ``BlockMask`` of 40 %, BEiT's.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If the tokenizer has another number of codes.
    """

    per_sample = True
    needs_patches = True

    def __init__(
        self,
        tokenizer: dict,
        in_channels: int,
        num_codes: int = 8192,
        mask: dict | None = None,
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        self.tokenizer = MODELS.build(tokenizer)
        if self.tokenizer.num_codes != num_codes:
            raise ValueError(f'num_codes={num_codes}, but the tokenizer has {self.tokenizer.num_codes} codes')
        self.mask = MODELS.build(mask or dict(type='BlockMask'))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.head = nn.Linear(in_channels, num_codes)

    def init_weights(self) -> None:
        """BEiT's initialization: normal(0.02), cut at two."""
        super().init_weights()
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, views: Views) -> dict[str, Tensor]:
        tower, grid = views.image_tower, views.grid()
        mask = views.mask(self.mask)
        hidden_patch = self.mask_token + tower.positions(grid)  # (1, N, C)
        patches = torch.where(mask.hidden.unsqueeze(-1), hidden_patch, views.patches())  # (B, N, C)
        features = gather_tokens(tower.encode(patches).patches, mask.masked)  # (B, M, C)
        target = self.tokenizer(views.pixels(), grid).gather(1, mask.masked)  # (B, M)
        return {'loss': F.cross_entropy(self.head(features).float().flatten(0, 1), target.flatten())}
