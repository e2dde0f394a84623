"""Projections of the towers' features into the shared embedding space."""

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmaskclip.contracts import ImageFeatures, check_pool
from mmmaskclip.models.regional_compile import region
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class TextProjectionHead(BaseModule):
    """One fully connected layer from tower width to embedding (CLIP; MaskCLIP section 3.1).

    Args:
        in_channels: Tower width C.
        embed_dims: Size D of the shared embedding; None: the features are the embedding, as TIPS's are.
        frozen: Whether it keeps its weights. Defaults to False.
        bias: Whether it has a bias, as SigLIP's and timm's have. Defaults to False.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int | None,
        frozen: bool = False,
        bias: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.projection: nn.Linear | nn.Identity = nn.Identity()
        if embed_dims is not None:
            self.projection = nn.Linear(in_channels, embed_dims, bias=bias).requires_grad_(not frozen)

    def init_weights(self) -> None:
        super().init_weights()
        if isinstance(self.projection, nn.Identity):
            return
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)
        if self.projection.bias is not None:
            nn.init.zeros_(self.projection.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Project features (..., C) to (..., D)."""
        return self.projection(features)


@MODELS.register_module()
class ImageProjectionHead(TextProjectionHead):
    """Pool the image tower's tokens and project them.

    Args:
        in_channels: Tower width C.
        embed_dims: See :class:`TextProjectionHead`.
        pool: ``'mean'``, the mean of the patches, is MaskCLIP's global feature (section 3.1: "mean feature of the
            visual features"); ``'cls'``, the class token, is CLIP's. Defaults to ``'mean'``.
        frozen: Whether it keeps its weights. Defaults to False.
        bias: See :class:`TextProjectionHead`. Defaults to False.

    Raises:
        ValueError: If ``pool`` is neither.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int | None,
        pool: str = 'mean',
        frozen: bool = False,
        bias: bool = False,
        init_cfg: dict | None = None,
    ):
        super().__init__(in_channels, embed_dims, frozen, bias, init_cfg)
        self.pool = check_pool(pool)

    def forward(self, features: ImageFeatures) -> Tensor:
        """Global embedding (B, D) of image features."""
        return self._pool_and_project(features.cls, features.patches)

    @region
    def _pool_and_project(self, cls: Tensor, patches: Tensor) -> Tensor:
        return self.projection(ImageFeatures(cls, patches).pool(self.pool))

    def dense(self, patches: Tensor) -> Tensor:
        """Project patches (B, N, C) to (B, N, D). With mean pooling, the mean of these is the global embedding."""
        return self.projection(patches)


@MODELS.register_module()
class ClassAndPatchesProjectionHead(TextProjectionHead):
    """The class token and the mean of the patches, side by side (Jose et al., CVPR 2025, section 3.2).

    The second half of a text's embedding is what patches are compared with, see
    :func:`~mmmaskclip.contracts.patch_part`.

    Args:
        in_channels: Tower width C.
        embed_dims: Size D of the shared embedding, of which each token gives one half; None: the features are the
            embedding, 2 C, as DINOv3's are.
        frozen: See :class:`TextProjectionHead`. Defaults to False.

    Attributes:
        patch_dims: Size of a patch's embedding, D / 2.

    Raises:
        ValueError: If ``embed_dims`` is odd.
    """

    #: What probes average in its place.
    pool = 'mean'

    def __init__(
        self, in_channels: int, embed_dims: int | None = None, frozen: bool = False, init_cfg: dict | None = None
    ):
        if embed_dims is not None and embed_dims % 2:
            raise ValueError(f'embed_dims={embed_dims}: class token and patches take a half each, give an even number')
        half = None if embed_dims is None else embed_dims // 2
        super().__init__(in_channels, half, frozen, init_cfg=init_cfg)
        self.patch_dims = half or in_channels

    def forward(self, features: ImageFeatures) -> Tensor:
        """Global embedding (B, D) of image features."""
        return torch.cat((self.projection(features.cls), self.projection(features.patches).mean(dim=1)), dim=-1)

    def dense(self, patches: Tensor) -> Tensor:
        """Project patches (B, N, C) to (B, N, D / 2)."""
        return self.projection(patches)
