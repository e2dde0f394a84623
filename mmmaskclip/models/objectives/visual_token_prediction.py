"""CLIP + BEiT: predict the discrete tokens of the hidden patches."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmaskclip.models.backbones import gather_tokens
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.noise import IMAGE_MASK_STREAM
from mmmaskclip.models.objectives.views import Views
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class VisualTokenPrediction(Objective):
    """BEiT's masked image modeling on the image tower that is shared with the contrastive loss (Bao et al. 2022;
    MaskCLIP's baseline CLIP+BEiT).

    The student encodes all patches, the hidden ones replaced by a learned mask token with their positions; a linear
    head names each hidden patch's token. mmpretrain's ``BEiTV1Head`` picks patches by a boolean mask, which makes the
    host wait for the device in every step, hence a head of ours.

    Args:
        tokenizer: Config of the visual tokenizer, e.g. ``dict(type='DALLETokenizer', checkpoint='path')``.
        in_channels: Width C of the image tower.
        num_tokens: Size of the tokenizer's vocabulary. Defaults to 8192, DALL-E's.
        mask: Config of the mask generator. Defaults to ``BlockMask`` of 40 %, BEiT's.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If the tokenizer has another vocabulary.
    """

    per_sample = True

    def __init__(
        self,
        tokenizer: dict,
        in_channels: int,
        num_tokens: int = 8192,
        mask: dict | None = None,
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        self.tokenizer = MODELS.build(tokenizer)
        if self.tokenizer.num_tokens != num_tokens:
            raise ValueError(f'num_tokens={num_tokens}, but the tokenizer has {self.tokenizer.num_tokens} tokens')
        self.mask = MODELS.build(mask or dict(type='BlockMask'))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, in_channels))
        self.head = nn.Linear(in_channels, num_tokens)

    def init_weights(self) -> None:
        """BEiT's initialization: normal(0.02), cut at two."""
        super().init_weights()
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, views: Views) -> dict[str, Tensor]:
        encoder, grid = views.model.image_encoder, views.grid()
        mask = self.mask(partial(views.noise, stream=IMAGE_MASK_STREAM), grid)
        hidden = (mask.restore >= mask.visible.shape[1]).unsqueeze(-1)
        tokens = torch.where(hidden, self.mask_token + encoder.positions(grid), views.patch_tokens())
        features = gather_tokens(encoder.encode(tokens).patches, mask.masked)
        target = self.tokenizer(self._pixels(views), grid).gather(1, mask.masked)
        loss = F.cross_entropy(self.head(features).float().flatten(0, 1), target.flatten())
        return {'loss': self.weight(self.progress) * loss}

    def _pixels(self, views: Views) -> Tensor:
        """The images as they were before their normalization, in [0, 1]."""
        preprocessor = views.model.data_preprocessor
        return (views.images() * preprocessor.std + preprocessor.mean) / 255
