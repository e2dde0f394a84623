"""Visual tokenizers: images to discrete tokens, one for each patch."""

import os
import zipfile
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.checkpoints.weights import read_state_dict
from mmmaskclip.registry import MODELS

_SOURCES = (
    'https://cdn.openai.com/dall-e/encoder.pkl (OpenAI), or '
    'https://mmassets.onedl.ai/mmselfsup/1.x/target_generator_ckpt/dalle_encoder.pth (OpenMMLab)'
)


@MODELS.register_module()
class DALLETokenizer(nn.Module):
    """The encoder of DALL-E's discrete VAE (Ramesh et al. 2021), the target of BEiT. Never trained.

    Its weights are read when the model is initialized, and are part of the model's own checkpoints.

    Args:
        checkpoint: Path of the weights: OpenAI's ``encoder.pkl``, OpenMMLab's ``dalle_encoder.pth`` or a state dict
            with the same names. Without it the model can be built, to load a finished run, but not be initialized.
            Defaults to None.
        encoder: Arguments of mmpretrain's ``DALL-E`` encoder, for one of another size. Defaults to None, the published
            one with 8192 tokens.
    """

    # Pixels for each token: the encoder halves the image three times.
    stride = 8
    # DALL-E's logit-Laplace distribution lives on the open interval (Ramesh et al. 2021, appendix A.3).
    margin = 0.1

    def __init__(self, checkpoint: str | None = None, encoder: dict | None = None):
        super().__init__()
        self.checkpoint = checkpoint
        self.encoder = MODELS.build(dict(type='mmpretrain.DALL-E', **(encoder or {}))).requires_grad_(False).eval()

    @property
    def num_tokens(self) -> int:
        """Size of the vocabulary."""
        return len(self.encoder.blocks.output.conv.b)

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
        weights = _read_pickled_module(self.checkpoint) or read_state_dict(self.checkpoint)
        try:
            self.encoder.load_state_dict(weights)
        except RuntimeError as error:
            differences = '; '.join(line.strip() for line in str(error).splitlines()[1:6])
            raise ValueError(
                f'{self.checkpoint!r} does not fit the encoder of DALL-E: {differences}; {remedy}'
            ) from error

    def train(self, mode: bool = True) -> 'DALLETokenizer':
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Token ids of an image's patches.

        Args:
            pixels: Images in [0, 1], (B, 3, H, W); they are resized so that each patch becomes one token. (BEiT resizes
                the crop of the original image with Lanczos' filter; this resizes the student's image bilinearly.)
            grid: Rows and columns of patches.

        Returns:
            int64 (B, N).
        """
        size = (self.stride * grid[0], self.stride * grid[1])
        # Rounding would change tokens.
        with torch.autocast(pixels.device.type, enabled=False):
            pixels = F.interpolate(pixels.float(), size, mode='bilinear', antialias=True)
            logits = self.encoder((1 - 2 * self.margin) * pixels + self.margin)
        return logits.argmax(dim=1).flatten(1)


class _Node:
    """Stands in for a module of a pickled model: it keeps the module's attributes and runs nothing."""

    def tensors(self, prefix: str = '') -> dict[str, Tensor]:
        """Parameters by name, as a state dict has them."""
        state: dict[str, Any] = vars(self)
        found = {prefix + name: value.data for name, value in state.get('_parameters', {}).items()}
        for name, child in state.get('_modules', {}).items():
            found |= child.tensors(f'{prefix}{name}.')
        return found


def _read_pickled_module(path: str) -> dict[str, Tensor] | None:
    """Parameters of a file that holds a whole pickled module, as OpenAI published it; None if it holds something else.

    Nothing of the file is executed: every module becomes a :class:`_Node`.
    """
    if not zipfile.is_zipfile(path):
        return None
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    modules: list[Any] = [(_Node, name) for name in names if name.startswith(('dall_e.', 'torch.nn.modules.'))]
    if not modules or len(modules) != len(names):
        return None
    with torch.serialization.safe_globals(modules):
        node = torch.load(path, map_location='cpu', weights_only=True)
    return node.tensors() if isinstance(node, _Node) else None
