"""The image tower: mmpretrain's VisionTransformer, able to encode a subset of its patches."""

import re
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmcv.cnn.bricks.transformer import PatchEmbed
from mmengine.model import PretrainedInit
from mmpretrain.models.backbones.vision_transformer import VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.image_tower import fit_positions, load_image_tower, square_grid
from mmmaskclip.contracts import ImageFeatures
from mmmaskclip.models.backbones.read_outs import ReadOut, find_read_out
from mmmaskclip.models.backbones.transformer_block import (
    as_residual,
    attention_without_plans,
    check_residual_dtype,
    gather_tokens,
    run_blocks,
    take_over,
)
from mmmaskclip.models.backbones.windows import make_windowed
from mmmaskclip.models.regional_compile import region
from mmmaskclip.registry import MODELS

ARCHITECTURES = {
    'Ti': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
    'S': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
    'B': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    'L': dict(embed_dims=1024, num_layers=24, num_heads=16, feedforward_channels=4096),
}

# Up to this many tokens the masked pass is faster without cuDNN.
_SHORT = 64

# Names of mmengine's initializer, and those of its keys that load_image_tower does not take.
_PRETRAINED = ('Pretrained', 'PretrainedInit')
_NOT_OF_LOADING = ('type', 'map_location')


@MODELS.register_module()
class CLIPVisionTransformer(VisionTransformer):
    """ViT image tower for contrastive pretraining.

    In pretraining it is used in two steps, so that the patch embedding of an image is computed once and shared by the
    full and the masked pass: :meth:`embed`, then :meth:`encode`. ``forward`` is mmpretrain's and returns a tuple of
    feature maps, so that the same class is a backbone of mmpretrain, mmseg and mmdet.

    Args:
        arch: ``'ViT-Ti/16'``, ``'ViT-S/16'``, ``'ViT-B/32'``, ``'ViT-B/16'``, ``'ViT-L/14'`` (the number is the patch
            size in pixels, any is allowed) or mmpretrain's dict of embed_dims, num_layers, num_heads and
            feedforward_channels. Defaults to ``'ViT-B/16'``.
        patch_size: Patch size in pixels. Needed with a dict ``arch``, taken from the name otherwise.
        quick_gelu: Use ``x * sigmoid(1.702 x)``, as OpenAI's weights do, in place of GELU. Defaults to False.
        num_registers: Number of learned tokens beside the class token, which take up global information that would
            else collect in background patches (Darcet et al. 2024, who use 4). No output has them. Defaults to 0.
        window_size: Side, in patches, of the windows in which the blocks attend in ``forward`` (not in pretraining's
            :meth:`encode`), so that large images fit; 14 is what a tower of 16-pixel patches saw at 224 pixels. See
            :func:`~mmmaskclip.models.backbones.windows.attend_in_windows`. Defaults to None: no windows.
        global_blocks: Indices of the blocks that attend over the whole image all the same. Defaults to the last of
            every quarter, e.g. 2, 5, 8 and 11 of 12 (Li et al. 2022, ViTDet, section 3).
        residual_dtype: ``'bf16'`` keeps the residual stream of :meth:`encode` and :meth:`dense` in bfloat16 under an
            autocast to it, as OpenCLIP does: less memory and time, sums of blocks rounded. Defaults to None: float32.
        **kwargs: Arguments of :class:`mmpretrain.models.VisionTransformer`: ``img_size``, ``pre_norm``, ``norm_cfg``,
            ``drop_path_rate``, ``out_type``, ``out_indices`` and so on. OpenAI's and OpenCLIP's weights need
            ``pre_norm=True`` and ``norm_cfg=dict(type='LN', eps=1e-5)``. ``init_cfg=dict(type='Pretrained',
            checkpoint=PATH, prefix='image_encoder.')`` loads the tower of a pretraining checkpoint, see
            :func:`~mmmaskclip.checkpoints.image_tower.load_image_tower`; the keys are its arguments.

    Raises:
        ValueError: If ``arch`` is no known name, the patch size is missing or given twice, ``global_blocks`` are given
            without ``window_size``, or registers or windows are given without a class token.
    """

    init_cfg: dict | list[dict] | None

    def __init__(
        self,
        arch: str | dict = 'ViT-B/16',
        patch_size: int | None = None,
        quick_gelu: bool = False,
        num_registers: int = 0,
        window_size: int | None = None,
        global_blocks: tuple[int, ...] | None = None,
        residual_dtype: str | None = None,
        **kwargs,
    ):
        if isinstance(arch, str):
            match = re.fullmatch(r'ViT-(Ti|S|B|L)/(\d+)', arch)
            if match is None:
                raise ValueError(
                    f'arch={arch!r} is unknown: write ViT-Ti, ViT-S, ViT-B or ViT-L, a slash and the '
                    "patch size, e.g. 'ViT-B/16', or a dict of mmpretrain's arch settings"
                )
            if patch_size not in (None, int(match[2])):
                raise ValueError(f'patch_size={patch_size} contradicts arch={arch!r}: leave patch_size out')
            arch, patch_size = dict(ARCHITECTURES[match[1]]), int(match[2])
        elif patch_size is None:
            raise ValueError('patch_size is missing: an arch given as a dict does not say it')
        if quick_gelu:
            # The scope is needed: mmseg and mmdet would look up a QuickGELU of their own, or none.
            kwargs['layer_cfgs'] = dict(act_cfg=dict(type='mmpretrain.QuickGELU'), **kwargs.get('layer_cfgs', {}))
        if global_blocks is not None and window_size is None:
            raise ValueError(f'global_blocks={global_blocks} without window_size: every block is global then')
        if not kwargs.get('with_cls_token', True) and (num_registers or window_size):
            raise ValueError('with_cls_token=False allows neither registers nor windows: leave them out')
        super().__init__(arch=dict(arch), patch_size=patch_size, **kwargs)
        take_over(self.layers)
        self.residual_dtype = check_residual_dtype(residual_dtype)
        self.window_size = window_size
        self.windowed = make_windowed(self.layers, window_size, global_blocks) if window_size is not None else set()
        self.num_registers = num_registers
        if num_registers:
            # Random from the start: a checkpoint without registers would leave zeros, which stay equal to each other.
            registers = 0.02 * torch.randn(1, num_registers, self.embed_dims)
            self.registers = nn.Parameter(registers, requires_grad=self.frozen_stages <= 0)

    def init_weights(self) -> None:
        """Load the checkpoint of ``init_cfg``, or initialize as MAE and MoCo v3 do.

        That is Xavier for q, k, v each, MLP and patch embedding, and normal(0.02) for tokens. What a checkpoint lacks
        is initialized so, too.
        """
        init_cfg = self.init_cfg
        configs = [init_cfg] if isinstance(init_cfg, dict) else list(init_cfg or [])
        # The type may carry a scope: mmengine.Pretrained.
        pretrained = [
            cfg for cfg in configs if cfg['type'] is PretrainedInit or str(cfg['type']).split('.')[-1] in _PRETRAINED
        ]
        # Not by mmengine, which executes code in a file and only warns where no weight fits.
        self.init_cfg = [cfg for cfg in configs if cfg not in pretrained]
        super().init_weights()
        self.init_cfg = init_cfg
        self._init_randomly()
        for cfg in pretrained:
            settings = {'prefix': None, **cfg}
            path = settings.pop('checkpoint')
            load_image_tower(self, path, **{key: settings[key] for key in settings if key not in _NOT_OF_LOADING})

    def _init_randomly(self) -> None:
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=0.02)
        projection = self.patch_embed.projection
        nn.init.xavier_uniform_(projection.weight.view(projection.weight.shape[0], -1))
        if projection.bias is not None:
            nn.init.zeros_(projection.bias)
        for layer in self.layers:
            for weight in (*layer.attn.qkv.weight.chunk(3), layer.attn.proj.weight):
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(layer.attn.qkv.bias)
            nn.init.zeros_(layer.attn.proj.bias)

    def _prepare_pos_embed(self, state_dict: dict[str, Tensor], prefix: str, *args, **kwargs) -> None:
        """Fit the positions of a state dict to this tower; mmpretrain calls it within ``load_state_dict``."""
        positions = state_dict.get(f'{prefix}pos_embed')
        if positions is None or positions.shape == self.pos_embed.shape:
            return
        has_cls = f'{prefix}cls_token' in state_dict
        # Positions that form no square are left to torch, whose error names the shapes.
        if grid := square_grid(positions.shape[1] - has_cls):
            state_dict[f'{prefix}pos_embed'] = fit_positions(self, positions, has_cls, grid)

    def train(self, mode: bool = True) -> 'CLIPVisionTransformer':
        """Set the mode and return the tower, as every module of torch does; mmpretrain's backbones return None."""
        super().train(mode)
        if mode and self.frozen_stages > 0:
            # Drop path and dropout would make the features of a frozen tower random.
            for frozen in (self.patch_embed, self.drop_after_pos, self.pre_norm, *self.layers[: self.frozen_stages]):
                frozen.eval()
        return self

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch embedding plus positions.

        Args:
            images: Normalized images, (B, 3, H, W); positions are interpolated when the size is not ``img_size``.

        Returns:
            Patches (B, N, C) and the patch grid (rows, columns).
        """
        patches, grid = self.patch_embed(images)
        return patches + self.positions(grid), tuple(grid)

    def embed_pixels(self, pixels: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, tuple[int, int]] | None:
        """:meth:`embed` as one product of matrices, from images that are not normalized; equal to rounding.

        Args:
            pixels: uint8 (B, 3, H, W).
            mean: Of the colours, (3, 1, 1).
            std: Likewise.

        Returns:
            What :meth:`embed` returns; None if the embedding is no plain convolution or images have
            a part of a patch.
        """
        if not isinstance(self.patch_embed, PatchEmbed) or self.patch_embed.norm is not None:
            return None
        projection, size = self.patch_embed.projection, pixels.shape[-2:]
        patch = projection.kernel_size
        if projection.stride != patch or any(projection.padding) or size[0] % patch[0] or size[1] % patch[1]:
            return None
        grid = size[0] // patch[0], size[1] // patch[1]
        return self._project_pixels(pixels, mean, std, self.positions(grid)), grid

    @region
    def _project_pixels(self, pixels: Tensor, mean: Tensor, std: Tensor, positions: Tensor) -> Tensor:
        projection = self.patch_embed.projection
        height, width = projection.kernel_size
        patches = pixels.unflatten(3, (-1, width)).unflatten(2, (-1, height))  # (B, 3, rows, h, columns, w)
        normalized = (patches.permute(0, 2, 4, 1, 3, 5).float() - mean) / std  # (B, rows, columns, 3, h, w)
        tokens = F.linear(normalized.flatten(3).flatten(1, 2), projection.weight.flatten(1), projection.bias)
        return tokens + positions  # (B, N, C)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings of the patches of a grid (rows, columns), interpolated if need be: (1, N, C)."""
        return resize_pos_embed(self.pos_embed, self.patch_resolution, grid, self.interpolate_mode, 1)[:, 1:]

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> ImageFeatures:
        """Run the transformer over the class token and all, or the visible, patches.

        Args:
            patches: Patches from :meth:`embed`, (B, N, C).
            visible: Indices of the patches to keep, (B, K). Only these are computed (MAE's and MaskCLIP's masked
                pass). All patches by default.

        Returns:
            Features of the class token and of the N, or K, patches in the order given.
        """
        if visible is not None:
            patches = gather_tokens(patches, visible)  # (B, K, C)
        x = self.first_input(patches)  # (B, 1 + registers + K, C)
        with attention_without_plans(x) if x.shape[1] <= _SHORT else nullcontext():
            x = run_blocks(self.layers, x)
        return ImageFeatures(*self.read_tokens(x))

    @region
    def read_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Class token (B, C) and patches (B, N, C) of the blocks' output (B, 1 + registers + N, C), after the norm."""
        if self.final_norm:
            x = self.ln1(x)
        cls, patches = x[:, 0], x[:, 1 + self.num_registers :]
        # In a compiled graph the clones are free: the norm writes into two tensors. Views would be cut out, and their
        # gradients joined, outside of the graph.
        return (cls.clone(), patches.clone()) if torch.compiler.is_compiling() else (cls, patches)

    def first_input(self, patches: Tensor) -> Tensor:
        """The blocks' input: class token, registers (which have no position) and patches."""
        extra = self.cls_token + self.pos_embed[:, :1]
        if self.num_registers:
            extra = torch.cat((extra, self.registers), dim=1)
        extra = extra.expand(patches.shape[0], -1, -1).to(patches.dtype)  # (B, 1 + registers, C)
        # (B, 1 + registers + N, C)
        tokens = self.pre_norm(self.drop_after_pos(torch.cat((extra, patches), dim=1)))
        return as_residual(tokens, self.residual_dtype)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """mmpretrain's forward on (B, 3, H, W): outputs of the blocks ``out_indices``, in the form ``out_type``."""
        if not self.num_registers and not self.windowed:
            return super().forward(x)
        patches, grid = self.embed(x)  # (B, N, C)
        x = self.first_input(patches)  # (B, 1 + registers + N, C)
        outputs = []
        for index, layer in enumerate(self.layers):
            # By position: mmengine's activation checkpointing passes on no keywords.
            x = layer(x, grid, self.window_size) if index in self.windowed else layer(x)
            if index == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if index in self.out_indices:
                # Without registers, so that every out_type means the same as without them.
                outputs.append(self._format_output(torch.cat((x[:, :1], x[:, 1 + self.num_registers :]), dim=1), grid))
        return tuple(outputs)

    def features(self, images: Tensor) -> ImageFeatures:
        """Features of the full image, (B, 3, H, W): :meth:`embed` and :meth:`encode` in one call."""
        patches, _ = self.embed(images)  # (B, N, C)
        return self.encode(patches)

    def dense(self, images: Tensor, read_out: ReadOut = 'patch') -> tuple[Tensor, tuple[int, int]]:
        """One vector for every patch of images of any size.

        Args:
            images: Normalized images, (B, 3, H, W). A side that is no multiple of the patch size is padded at the
                bottom or right with zeros, the mean colour.
            read_out: Name of a read-out, or ``dict(name=NAME, **options)``; see
                :mod:`~mmmaskclip.models.backbones.read_outs`. Defaults to ``'patch'``, the tower's output.

        Returns:
            Patches (B, N, C) and their grid (rows, columns), padding included.

        Raises:
            ValueError: If ``read_out`` or one of its options is unknown.
        """
        read = find_read_out(read_out)
        patches, grid = self.embed(images)  # (B, N, C)
        return self.finish(read(self.blocks(grid), self.first_input(patches), grid)), grid

    def blocks(self, grid: tuple[int, int]) -> Sequence[Any]:
        """The blocks as read-outs call them; those of this tower do not depend on the grid."""
        return list(self.layers)

    def finish(self, patches: Tensor) -> Tensor:
        """The final norm of patches (B, N, C)."""
        return self.ln1(patches) if self.final_norm else patches

    @property
    def patch_size(self) -> tuple[int, int]:
        """Height and width of a patch in pixels."""
        return self.patch_embed.projection.stride

    def unpadded_fraction(self, size: Sequence[int]) -> tuple[float, float]:
        """Fraction of the padded patch grid that an image fills, (height, width); 1 without padding.

        Args:
            size: Height H and width W of the image in pixels.

        Returns:
            ``H / (h p)`` and ``W / (w p)`` for h x w patches of p pixels.
        """
        height, width = (
            side / (-(-side // pixels) * pixels) for side, pixels in zip(size, self.patch_size, strict=True)
        )
        return height, width

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise decay, and the number of depths.

        As mmpretrain's method, but ``pre_norm`` and registers belong to the stem. mmpretrain counts unknown parameters
        as the last layer, which would train them at the full learning rate.
        """
        depth, num_depths = super().get_layer_depth(param_name, prefix)
        return (0 if param_name.startswith((f'{prefix}pre_norm', f'{prefix}registers')) else depth), num_depths
