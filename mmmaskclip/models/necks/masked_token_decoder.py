"""The decoder that predicts hidden patches from visible ones."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones import MaskedBlock, gather_tokens
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class MaskedTokenDecoder(BaseModule):
    """Re-insert a learned mask token, add positions to all tokens again, and run a small ViT (MaskCLIP, Eq. 5).

    mmpretrain's MAEPretrainDecoder changes the width, fixes its positions and expects MAE's restore indices; the
    paper's decoder is a plain ViT layer of the encoder's width. Its blocks start from torch's default initialization.

    Args:
        width: Token width C of the encoder.
        num_patches: Number of patches N of the full image.
        num_heads: Attention heads; the papers use the encoder's.
        depth: Number of blocks. Defaults to 1, the papers' value.
        shared_keys: Compute q, k and v of the mask tokens once for all images, in which they are equal up to the first
            block. For one block; equal to rounding. Defaults to False.

    Raises:
        ValueError: If ``shared_keys`` is True and there is not one block.
    """

    def __init__(
        self,
        width: int,
        num_patches: int,
        num_heads: int,
        depth: int = 1,
        shared_keys: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if shared_keys and depth != 1:
            raise ValueError(f'shared_keys=True with depth={depth}: only the first block sees equal mask tokens')
        self.shared_keys = shared_keys
        self.num_patches = num_patches
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, width))
        norm_cfg = dict(type='LN', eps=1e-6)
        self.layers = nn.ModuleList(MaskedBlock(width, num_heads, 4 * width, norm_cfg=norm_cfg) for _ in range(depth))
        self.final_norm = nn.LayerNorm(width, eps=1e-6)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, visible_features: ImageFeatures, visible: Tensor, queries: Tensor | None = None) -> Tensor:
        """Predict the features of all patches, or of those that the loss looks at.

        Args:
            visible_features: Student features of the K visible patches.
            visible: Their patch indices, (B, K).
            queries: Indices (B, M) of the patches to predict. The last block then has queries only there, with the same
                result as picking these patches afterwards. All patches by default.

        Returns:
            (B, N, C) in patch order, or (B, M, C) in the order of ``queries``.
        """
        patches = visible_features.patches  # (B, K, C)
        batch, _, width = patches.shape
        hidden = self.mask_token.to(patches.dtype).expand(batch, self.num_patches, width)  # (B, N, C)
        full = hidden.scatter(1, visible.unsqueeze(-1).expand(-1, -1, width), patches)  # (B, N, C)
        x = torch.cat((visible_features.cls.unsqueeze(1), full), dim=1) + self.pos_embed  # (B, 1 + N, C)
        if self.shared_keys:
            after_cls = None if queries is None else queries + 1
            hidden = self.mask_token + self.pos_embed[:, 1:]  # (1, N, C)
            x = self.layers[0](x, after_cls, hidden, F.pad(visible + 1, (1, 0)))  # (B, M or 1 + N, C)
            return self.final_norm(x[:, 1:] if queries is None else x)
        if queries is None:
            for layer in self.layers:
                x = layer(x)
            return self.final_norm(x[:, 1:])
        for layer in self.layers[:-1]:
            x = layer(x)
        after_cls = queries + 1
        x = self.layers[-1](x, after_cls) if self.layers else gather_tokens(x, after_cls)  # (B, M, C)
        return self.final_norm(x)
