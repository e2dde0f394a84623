"""Soft assignment of features to learned codewords."""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """MLP, L2 norm and cosine similarity to K learned codewords (Caron et al. 2021, DINO; Zhou et al. 2022, iBOT).

    MaskCLIP's CVPR version passes features through an online quantizer whose form no source states; iBOT's head with
    its sizes is our default for it.

    Args:
        in_channels: Width C of the features.
        num_prototypes: Number of codewords K. Defaults to 8192.
        hidden_channels: Width of the MLP. Defaults to 2048.
        bottleneck_channels: Width of the codewords. Defaults to 256.
    """

    def __init__(
        self,
        in_channels: int,
        num_prototypes: int = 8192,
        hidden_channels: int = 2048,
        bottleneck_channels: int = 256,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, hidden_channels),
            nn.GELU(),
            nn.Linear(hidden_channels, bottleneck_channels),
        )
        self.prototypes = nn.Parameter(torch.empty(num_prototypes, bottleneck_channels))
        nn.init.normal_(self.prototypes, std=0.02)

    def init_weights(self) -> None:
        super().init_weights()
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.normal_(self.prototypes, std=0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Cosine similarities (..., K) of features (..., C) to the codewords."""
        return F.linear(F.normalize(self.mlp(features), dim=-1), F.normalize(self.prototypes, dim=-1))
