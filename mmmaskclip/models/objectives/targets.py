"""Fixed models that give objectives their targets: an image tower of an earlier run, and DALL-E's image tokenizer."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.checkpoints.image_tower import load_image_tower
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.registry import MODELS

_SOURCES = (
    'https://cdn.openai.com/dall-e/encoder.pkl (OpenAI), or '
    'https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth (OpenMMLab)'
)


class FrozenEncoder(nn.Module):
    """The image tower of a checkpoint, never trained and always in eval mode.

    It is the teacher of two-stage distillation: ``MaskedSelfDistillation`` with ``target='frozen'``.

    Its weights are read when the model is initialized, and are part of the model's own checkpoints.

    Args:
        encoder: Config of the image tower, as in the run that trained it.
        checkpoint: Path of that run's checkpoint, or of a CLIP of OpenAI, OpenCLIP or Hugging Face; only the image
            tower is used. Without it the model can be built, to load a finished run, but not be initialized. Defaults
            to None.
    """

    def __init__(self, encoder: dict, checkpoint: str | None = None):
        super().__init__()
        self.encoder = MODELS.build(encoder).requires_grad_(False).eval()
        self.checkpoint = checkpoint

    def init_weights(self) -> None:
        """Read the weights.

        Raises:
            ValueError: If there is no ``checkpoint``, or it has no image tower or one that does not fit ``encoder``.
            FileNotFoundError: If there is no such file.
        """
        if self.checkpoint is None:
            raise ValueError(
                "target='frozen' has no teacher: set frozen.checkpoint to a checkpoint of the first stage, "
                'e.g. --cfg-options model.objectives.distillation.frozen.checkpoint='
                'work_dirs/clip/vitb16_laion20m/iter_122050.pth'
            )
        report = load_image_tower(self.encoder, self.checkpoint)
        if report.missing:
            raise ValueError(
                f'{self.checkpoint!r} does not fit frozen.encoder: {", ".join(report.missing)} are missing and would '
                'stay random. Use the image_encoder of the config it was trained with.'
            )

    def train(self, mode: bool = True) -> FrozenEncoder:
        """Stay in eval mode: targets must not depend on drop path or dropout."""
        return super().train(False)


@MODELS.register_module()
class DALLETokenizer(nn.Module):
    """The encoder of DALL-E's discrete VAE (Ramesh et al. 2021), the target of BEiT. Never trained.

    It turns an image into one code per patch. Its weights are read when the model is initialized, and are part of the
    model's own checkpoints.

    Args:
        checkpoint: Path of the weights: OpenAI's ``encoder.pkl``, OpenMMLab's ``dalle_encoder.pth`` or a state dict
            with the same names. Without it the model can be built, to load a finished run, but not be initialized.
            Defaults to None.
        encoder: Arguments of mmpretrain's ``DALL-E`` encoder, for one of another size. Defaults to None, the published
            one with 8192 codes.
    """

    # Pixels for each code: the encoder halves the image three times.
    stride = 8
    # DALL-E's logit-Laplace distribution is defined on (0, 1) without its ends, so pixels are moved away from 0 and 1
    # (Ramesh et al. 2021, appendix A.3).
    margin = 0.1

    def __init__(self, checkpoint: str | None = None, encoder: dict | None = None):
        super().__init__()
        self.checkpoint = checkpoint
        self.encoder = MODELS.build(dict(type='mmpretrain.DALL-E', **(encoder or {}))).requires_grad_(False).eval()

    @property
    def num_codes(self) -> int:
        """Size of the vocabulary."""
        return self.encoder.blocks.output.conv.b.shape[0]

    def init_weights(self) -> None:
        """Read the weights.

        Raises:
            ValueError: If there is no ``checkpoint``, or it does not fit; the message says where to get it.
            FileNotFoundError: If there is no such file.
        """
        remedy = f'download {_SOURCES}, and set tokenizer.checkpoint to its path'
        if self.checkpoint is None:
            raise ValueError(f'DALLETokenizer has no checkpoint: {remedy}')
        if not os.path.isfile(self.checkpoint):
            raise FileNotFoundError(f'There is no tokenizer {self.checkpoint!r}: {remedy}')
        try:
            self.encoder.load_state_dict(read_state_dict(self.checkpoint))
        except RuntimeError as error:
            differences = '; '.join(line.strip() for line in str(error).splitlines()[1:6])
            raise ValueError(
                f'{self.checkpoint!r} does not fit the encoder of DALL-E: {differences}; {remedy}'
            ) from error

    def train(self, mode: bool = True) -> DALLETokenizer:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Codes of an image's patches.

        Args:
            pixels: Images in [0, 1], (B, 3, H, W); they are resized so that each patch becomes one code. (BEiT resizes
                the crop of the original image with Lanczos' filter; this resizes the student's image bilinearly.)
            grid: Rows and columns of patches.

        Returns:
            int64 (B, N).
        """
        size = (self.stride * grid[0], self.stride * grid[1])
        # Rounding would change codes.
        with torch.autocast(pixels.device.type, enabled=False):
            pixels = F.interpolate(pixels.float(), size, mode='bilinear', antialias=True)  # (B, 3, *size)
            logits = self.encoder((1 - 2 * self.margin) * pixels + self.margin)  # (B, K, rows, columns)
        return logits.argmax(dim=1).flatten(1)  # (B, N)
