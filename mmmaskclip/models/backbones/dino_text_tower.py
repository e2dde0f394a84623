"""DINOv3's text-aligned image tower (dino.txt): blocks trained against text on top of a ViT that was not."""

from typing import Any

from torch import Tensor, nn

from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones.read_outs import Grid
from mmmaskclip.models.backbones.timm_tower import TimmBlock, TimmTower
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class DinoTextTower(TimmTower):
    """A ViT of timm with further blocks on top (Jose et al., "DINOv2 Meets Text", CVPR 2025, section 3.2).

    The blocks read all tokens after the ViT's final norm: class token, registers and patches. They know no positions,
    and have SwiGLU, layer scale, and no biases for queries, keys and values; timm's ``EvaBlock`` is such a block.
    Read-outs take the last of them for the last block. The paper freezes the ViT: ``frozen=True``.

    Args:
        model_name: See :class:`TimmTower`, e.g. ``'vit_large_patch16_dinov3_qkvb'``.
        num_blocks: Blocks on top. Defaults to 2, the paper's.
        frozen: Whether the ViT, not what is on top, keeps its weights. Defaults to False.
        **settings: See :class:`TimmTower`.
    """

    def __init__(
        self,
        model_name: str,
        num_blocks: int = 2,
        frozen: bool = False,
        **settings: Any,
    ):
        super().__init__(model_name, **settings)
        from timm.models.eva import EvaBlock

        self.top_blocks = nn.ModuleList(
            EvaBlock(
                self.embed_dims,
                self.trunk.blocks[0].attn.num_heads,
                qkv_bias=False,
                # SwiGLU of about the parameters of a plain network of four times the width.
                mlp_ratio=8 / 3,
                swiglu_mlp=True,
                swiglu_align_to=64,
                init_values=1e-5,
                norm_layer=nn.LayerNorm,
                num_prefix_tokens=self.trunk.num_prefix_tokens,
            )
            for _ in range(num_blocks)
        )
        self.top_norm = nn.LayerNorm(self.embed_dims)
        if frozen:
            self.trunk.requires_grad_(False)

    def _features(self, x: Tensor, rotation: Tensor | None) -> ImageFeatures:
        x = self._tokens(x, rotation)
        for block in self.top_blocks:
            x = block(x)
        return self._split(self.top_norm(x))

    def blocks(self, grid: Grid) -> list[TimmBlock]:
        """The blocks as read-outs call them, for a grid of patches; the ViT's norm belongs to its last one."""
        below = super().blocks(grid)
        above = [TimmBlock(block, None) for block in self.top_blocks]
        return [*below[:-1], _NormedBlock(below[-1], self.trunk.norm), *above]

    def finish(self, patches: Tensor) -> Tensor:
        """The final norm of patches (B, N, C)."""
        return self.top_norm(patches)


class _NormedBlock(TimmBlock):
    """A block whose output is normed."""

    def __init__(self, block: TimmBlock, norm: nn.Module):
        super().__init__(block.module, block.rotation)
        self.norm = norm

    def __call__(self, x: Tensor) -> Tensor:
        return self.norm(super().__call__(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return self.norm(super().feed_forward(x))
