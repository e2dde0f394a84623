"""Soft assignment of features to learned codewords."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Similarities
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class PrototypeHead(BaseModule):
    """MLP, L2 norm and cosine similarity to K learned codewords (Caron et al. 2021, DINO; Zhou et al. 2022, iBOT).

    MaskCLIP's CVPR version passes features through an online quantizer whose form no source states; iBOT's head with
    its sizes is our default for it.

    Two things differ from iBOT.

    First, the MLP starts with Kaiming's initialization in place of a standard deviation of 0.02. Early in training all
    features point almost the same way. With small weights, Adam (5e-4, so 2 % of such a weight per step) first moves
    the part that all features share, and all collapse to one assignment (loss = log K). On features of 64 kinds with a
    common mean three times their spread, K = 1024 and a teacher momentum of 0.99, the loss after 200 steps is 0.5 to
    0.8 with this start (3 seeds) and 6.9, log K, with iBOT's, which needs a fifth of the learning rate.

    Second, similarities are float32 under any autocast: bfloat16's steps of 1/256 are 0.1 after a temperature of 0.04.

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
        nn.init.normal_(self.prototypes)

    def init_weights(self) -> None:
        super().init_weights()
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')
                nn.init.zeros_(layer.bias)
        # Only directions matter; with components of std 1 / sqrt(d) they have norm 1 and turn at the pace of the MLP.
        nn.init.normal_(self.prototypes, std=self.prototypes.shape[1] ** -0.5)

    def forward(self, features: Tensor) -> Similarities:
        """Cosine similarities of features (..., C) to the codewords."""
        mapped = self.mlp(features)  # (..., D)
        return Similarities(F.normalize(mapped.float(), dim=-1), F.normalize(self.prototypes.float(), dim=-1))
