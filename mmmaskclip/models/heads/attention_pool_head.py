"""Attention pooling of whole images, and its counterpart for single patches."""

from typing import Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class AttentionPoolProjectionHead(BaseModule):
    """Pool the patches by a learned query, then project them (MAP of SigLIP, Zhai et al., ICCV 2023; PE-Core).

    Args:
        in_channels: Tower width C.
        embed_dims: Size D of the shared embedding; None: the pool's output is the embedding, as SigLIP's is.
        num_heads: Attention heads. Defaults to 12.
        mlp_ratio: Width of the feed-forward network over C. Defaults to 4.
        eps: Epsilon of the norm before the feed-forward network. Defaults to 1e-6, SigLIP's.
        activation: ``'gelu_tanh'``, SigLIP's, or ``'gelu'``. Defaults to ``'gelu_tanh'``.
        with_cls: Whether the class token is pooled beside the patches, as by PE-Core. Defaults to False.
        bias: Whether the projection has a bias. Defaults to False.
    """

    #: Probes pool so, in place of the attention.
    pool = 'mean'

    def __init__(
        self,
        in_channels: int,
        embed_dims: int | None,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        eps: float = 1e-6,
        activation: Literal['gelu_tanh', 'gelu'] = 'gelu_tanh',
        with_cls: bool = False,
        bias: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.query = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.attention = nn.MultiheadAttention(in_channels, num_heads, batch_first=True)
        self.norm = nn.LayerNorm(in_channels, eps=eps)
        hidden = round(mlp_ratio * in_channels)
        approximate = {'gelu_tanh': 'tanh', 'gelu': 'none'}[activation]
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(approximate=approximate), nn.Linear(hidden, in_channels)
        )
        self.with_cls = with_cls
        self.projection = nn.Identity() if embed_dims is None else nn.Linear(in_channels, embed_dims, bias=bias)

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.trunc_normal_(self.query, std=self.query.shape[-1] ** -0.5)
        if isinstance(self.projection, nn.Linear):
            nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)

    def forward(self, features: ImageFeatures) -> Tensor:
        """Global embedding (B, D) of image features."""
        tokens = features.patches  # (B, N, C)
        if self.with_cls:
            tokens = torch.cat((features.cls.unsqueeze(1), tokens), dim=1)  # (B, 1 + N, C)
        # Not len(): a trace would freeze it to a constant.
        query = self.query.expand(tokens.shape[0], -1, -1)  # (B, 1, C)
        pooled, _ = self.attention(query, tokens, tokens, need_weights=False)  # (B, 1, C)
        return self._finish(pooled[:, 0])

    def dense(self, patches: Tensor) -> Tensor:
        """Embedding (B, N, D) of every patch (B, N, C), as if it were the only one.

        Attention to a single patch returns its value, whatever the query. So every patch gets what the pool does to an
        image. The plain projection of a patch would lie in another space.
        """
        # The last third of the joint projection of q, k and v: (C, C) and (C,).
        weight, bias = (part.chunk(3)[2] for part in (self.attention.in_proj_weight, self.attention.in_proj_bias))
        return self._finish(self.attention.out_proj(nn.functional.linear(patches, weight, bias)))

    def _finish(self, pooled: Tensor) -> Tensor:
        return self.projection(pooled + self.mlp(self.norm(pooled)))
