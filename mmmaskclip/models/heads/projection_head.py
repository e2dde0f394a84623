"""Projections of the towers' features into the shared embedding space."""

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
