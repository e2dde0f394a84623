"""ViTs of timm as image towers: SigLIP, EVA02-CLIP, Perception Encoder, MobileCLIP's ViT.

timm has the parts that our tower lacks: rotary positions, SwiGLU, norms inside of the attention, convolutional stems.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.image_tower import square_grid
from mmmaskclip.checkpoints.trunks import timm_trunk
from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones.read_outs import Grid, ReadOut, find_read_out
from mmmaskclip.models.backbones.transformer_block import gather_tokens
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class TimmTower(BaseModule):
    """A ViT of timm, without its pool and classifier, as image tower; the weights are timm's, under ``trunk``.

    Pool and projection belong to the image projection: ``ImageProjectionHead(pool='cls', bias=True)`` for towers with a
    class token, ``AttentionPoolProjectionHead`` for those that pool by attention.

    Args:
        model_name: Name of the model in timm, e.g. ``'vit_base_patch16_siglip_224'``.
        img_size: Side of the images in pixels. Defaults to the model's own.
        position_interpolation: How learned positions are brought to another grid: ``'bicubic'``, timm's, or
            ``'bilinear'``, that of TIPS and of SigLIP 2 of variable shapes (NaFlex). Defaults to ``'bicubic'``.
        num_registers: New register tokens behind the class token, beside those that the model has itself: without a
            position, and no part of its file (PH-Reg, see ``DenoisedDistillation``). Defaults to 0.
        **settings: Arguments of ``timm.create_model``, e.g. ``act_layer='gelu_tanh'``, ``drop_path_rate=0.1``.

    Attributes:
        img_size: Height and width of the images for which the positions were learned.
        embed_dims: Width C.
        model_name: See the arguments, as ``settings``.
        settings: Arguments of ``timm.create_model``, with ``img_size`` where it was given.

    Raises:
        ImportError: If timm is not installed.
        ValueError: If timm has no such model, or it is no plain ViT.
    """

    def __init__(
        self,
        model_name: str,
        img_size: int | None = None,
        position_interpolation: Literal['bicubic', 'bilinear'] = 'bicubic',
        num_registers: int = 0,
        init_cfg: dict | None = None,
        **settings: Any,
    ):
        super().__init__(init_cfg)
        self.position_interpolation = position_interpolation
        if img_size is not None:
            settings['img_size'] = img_size
        self.model_name, self.settings = model_name, dict(settings)
        self.trunk = timm_trunk(model_name, num_classes=0, global_pool='', dynamic_img_size=True, **settings)
        attention = getattr(next(iter(getattr(self.trunk, 'blocks', ())), None), 'attn', None)
        unknown = (
            attention is None
            or not hasattr(self.trunk, '_pos_embed')
            or getattr(attention, 'gate', None) is not None
            or getattr(attention, 'num_kv_groups', 1) > 1
            or getattr(self.trunk, 'rope_mixed', False)
        )
        if unknown:
            raise ValueError(
                f'model_name={model_name!r}: {type(self.trunk).__name__} is no ViT whose blocks are known here; for '
                "whole images take image_encoder=dict(type='WholeImageTower', backbone=dict(...))"
            )
        self.img_size: tuple[int, int] = tuple(self.trunk.patch_embed.img_size)
        self.embed_dims: int = self.trunk.embed_dim
        self.registers = nn.Parameter(torch.zeros(1, num_registers, self.embed_dims)) if num_registers else None

    def init_weights(self) -> None:
        super().init_weights()
        if self.registers is not None:
            nn.init.trunc_normal_(self.registers, std=0.02)

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        ratio = self.trunk.patch_embed.feat_ratio()
        return (ratio, ratio) if isinstance(ratio, int) else tuple(ratio)

    def unpadded_fraction(self, size: Sequence[int]) -> tuple[float, float]:
        """See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.unpadded_fraction`."""
        height, width = (
            side / (-(-side // pixels) * pixels) for side, pixels in zip(size, self.patch_size, strict=True)
        )
        return height, width

    def embed(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Patch tokens with positions (B, N, C) of images (B, 3, H, W), padded with zeros, and their grid."""
        height, width = self.patch_size
        images = F.pad(images, (0, -images.shape[3] % width, 0, -images.shape[2] % height))
        tokens = self.trunk.patch_embed(images)  # (B, rows, columns, C)
        grid = (tokens.shape[1], tokens.shape[2])
        return tokens.flatten(1, 2) + self.positions(grid), grid

    def positions(self, grid: Grid) -> Tensor:
        """Learned positions of a grid (1, N, C), interpolated with antialiasing; the blocks add rotary ones."""
        table = self.trunk.pos_embed
        if table is None:
            return next(self.trunk.parameters()).new_zeros(1, 1, 1)
        from timm.layers import resample_abs_pos_embed

        extra = self._extra_positions
        positions = resample_abs_pos_embed(
            table,
            grid,
            self.trunk.patch_embed.grid_size,
            num_prefix_tokens=extra,
            interpolation=self.position_interpolation,
        )
        return positions[:, extra:]

    @property
    def _extra_positions(self) -> int:
        """How many rows of the table of positions belong to class token and registers."""
        return 0 if self.trunk.no_embed_class else self.trunk.num_prefix_tokens

    def first_input(self, tokens: Tensor) -> Tensor:
        """The blocks' input (B, E + N, C): class token and registers before the patch tokens."""
        trunk = self.trunk
        parts = [part for part in (trunk.cls_token, trunk.reg_token) if part is not None]
        if parts:
            extra = torch.cat(parts, dim=1)  # (1, E, C)
            if self._extra_positions and trunk.pos_embed is not None:
                extra = extra + trunk.pos_embed[:, : self._extra_positions]
            # Not len(): a trace would freeze it to a constant.
            extra = extra.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
            tokens = torch.cat((extra, tokens), dim=1)
        if self.registers is not None:
            place = trunk.num_prefix_tokens
            new = self.registers.expand(tokens.shape[0], -1, -1).to(tokens.dtype)
            tokens = torch.cat((tokens[:, :place], new, tokens[:, place:]), dim=1)
        return trunk.norm_pre(trunk.pos_drop(tokens))

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> ImageFeatures:
        """Features of all embedded patches (B, N, C), or of the ``visible`` ones (B, K).

        Without a class token the mean of the patches takes its place.

        Raises:
            ValueError: If positions are rotary and the patches form no square: the grid is not known then.
        """
        rotation = None
        if self._rotates:
            grid = square_grid(patches.shape[1])
            if grid is None:
                raise ValueError(f'{patches.shape[1]} patches form no square, which rotary positions need here')
            rotation = self._rotation(grid)
        if visible is not None:
            patches = gather_tokens(patches, visible)
            if rotation is not None:
                rotation = rotation[visible].unsqueeze(1)  # (B, 1, K, 2 d)
        return self._features(self.first_input(patches), rotation)

    def features(self, images: Tensor) -> ImageFeatures:
        """Features of images (B, 3, H, W) of any size."""
        tokens, grid = self.embed(images)
        return self._features(self.first_input(tokens), self._rotation(grid))

    def _features(self, x: Tensor, rotation: Tensor | None) -> ImageFeatures:
        return self._split(self._tokens(x, rotation))

    def _tokens(self, x: Tensor, rotation: Tensor | None) -> Tensor:
        """All tokens (B, E + N, C) after the final norm."""
        if rotation is not None:
            rotation = _unrotated_first(rotation, x.shape[1] - self.trunk.num_prefix_tokens)
        for block in self.trunk.blocks:
            x = block(x) if rotation is None else block(x, rope=rotation)
        return self.trunk.norm(x)

    def _split(self, x: Tensor) -> ImageFeatures:
        extra = self.trunk.num_prefix_tokens + (0 if self.registers is None else self.registers.shape[1])
        patches = x[:, extra:]
        return ImageFeatures(cls=patches.mean(dim=1) if self.trunk.cls_token is None else x[:, 0], patches=patches)

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """The map of patches (B, C, h, w), as a backbone of OpenMMLab gives it."""
        patches, grid = self.dense(images)
        return (patches.transpose(1, 2).unflatten(2, grid),)

    @property
    def _rotates(self) -> bool:
        return getattr(self.trunk, 'rope', None) is not None

    def _rotation(self, grid: Grid) -> Tensor | None:
        """Sines and cosines of the rotary positions, (N, 2 d)."""
        return self.trunk.rope.get_embed(shape=grid) if self._rotates else None

    def blocks(self, grid: Grid) -> list['TimmBlock']:
        """The blocks as read-outs call them, for a grid of patches."""
        rotation = self._rotation(grid)
        return [TimmBlock(block, rotation) for block in self.trunk.blocks]

    def finish(self, patches: Tensor) -> Tensor:
        """The final norm of patches (B, N, C)."""
        return self.trunk.norm(patches)

    def dense(self, images: Tensor, read_out: ReadOut = 'patch') -> tuple[Tensor, Grid]:
        """See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`."""
        read = find_read_out(read_out)
        tokens, grid = self.embed(images)
        return self.finish(read(self.blocks(grid), self.first_input(tokens), grid)), grid


class TimmBlock:
    """A block of timm whose parts a read-out can call (:class:`~mmmaskclip.models.backbones.last_block.ReadableBlock`).

    Args:
        module: The block.
        rotation: Sines and cosines (N, 2 d) of the patches' rotary positions, or None.
    """

    def __init__(self, module: Any, rotation: Tensor | None):
        self.module = module
        self.rotation = rotation
        # Post-norm: the norms follow attention and feed-forward network.
        self.norms_after = type(module).__name__ == 'EvaBlockPostNorm'

    def __call__(self, x: Tensor) -> Tensor:
        """The whole block on tokens (B, T, C)."""
        if self.rotation is None:
            return self.module(x)
        return self.module(x, rope=_unrotated_first(self.rotation, x.shape[1] - self.module.attn.num_prefix_tokens))

    def heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k and v (B, H, T, d), after norms and rotation."""
        attn, normed = self.module.attn, x if self.norms_after else self.module.norm1(x)
        if attn.qkv is None:
            parts: Sequence[Tensor] = [attn.q_proj(normed), attn.k_proj(normed), attn.v_proj(normed)]
        else:
            joint = attn.qkv(normed)  # (B, T, 3 H d)
            if getattr(attn, 'q_bias', None) is not None:
                joint = joint + torch.cat((attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias))
            parts = joint.chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for part in parts)
        q, k = attn.q_norm(q), attn.k_norm(k)
        if self.rotation is not None:
            from timm.layers import apply_rot_embed_cat

            rotation, half = _unrotated_first(self.rotation, x.shape[1]), getattr(attn, 'rotate_half', False)
            q, k = (apply_rot_embed_cat(part, rotation, half=half).type_as(v) for part in (q, k))
        return q, k, v

    def project(self, attended: Tensor) -> Tensor:
        """What attention adds to the tokens, (B, T, C), from the joined heads (B, T, H d)."""
        attn = self.module.attn
        added = attn.proj_drop(attn.proj(attn.norm(attended)))
        if self.norms_after:
            added = self.module.norm1(added)
        return self.module.drop_path1(self._scale(1)(added))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The block's second half, with its residual, on tokens (B, T, C)."""
        block = self.module
        added = block.norm2(block.mlp(x)) if self.norms_after else block.mlp(block.norm2(x))
        return x + block.drop_path2(self._scale(2)(added))

    def _scale(self, half: int) -> Callable[[Tensor], Tensor]:
        """Layer scale, which timm's two kinds of blocks keep in different places."""
        gamma = getattr(self.module, f'gamma_{half}', None)
        if gamma is not None:
            return lambda added: gamma * added
        return getattr(self.module, f'ls{half}', nn.Identity())

    @property
    def neurons_reader(self) -> nn.Linear:
        """The layer that reads the neurons of the feed-forward network."""
        return self.module.mlp.fc2


def _unrotated_first(rotation: Tensor, tokens: int) -> Tensor:
    """Rotation (..., tokens, 2 d) of tokens of which the last have ``rotation`` (..., N, 2 d), and registers none."""
    sines, cosines = rotation.chunk(2, dim=-1)
    extra = tokens - sines.shape[-2]
    return torch.cat((F.pad(sines, (0, 0, extra, 0)), F.pad(cosines, (0, 0, extra, 0), value=1.0)), dim=-1)
