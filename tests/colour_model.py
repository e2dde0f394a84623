"""A model without training whose maps hit: patches and words are compared by colour."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.datasets.scenes.generator import COLOURS
from mmmaskclip.datasets.transforms.tokenize import tokenize


class _Encoder:
    img_size, patch_size = (64, 64), (8, 8)


class _Preprocessor(nn.Module):
    interpolation, resize_mode = 'bilinear', 'shortest'

    def forward(self, data):
        return {'image': data['image'].float() / 255}


def _embed(colours: torch.Tensor) -> torch.Tensor:
    """Colours (..., 3) without their brightness; a fourth direction is what grey has."""
    chroma = colours - colours.mean(-1, keepdim=True)
    return F.normalize(torch.cat((chroma, torch.full_like(chroma[..., :1], 0.2)), -1), dim=-1)


class ColourModel(nn.Module):
    """Knows the colours of scenes by name, 64 pixels in patches of 8, and no other word."""

    tokenize = staticmethod(partial(tokenize, context_length=16))

    def __init__(self):
        super().__init__()
        self.image_encoder, self.data_preprocessor = _Encoder(), _Preprocessor()
        self.names = {int(tokenize([name], 16)[0][1]): torch.tensor(rgb) / 255 for name, rgb in COLOURS.items()}
        self.weight = nn.Parameter(torch.zeros(1))

    def encode_dense(self, images, read_out='patch'):
        return _embed(F.avg_pool2d(images, 8).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def encode_image(self, images):
        return _embed(images.mean((2, 3)))

    def encode_text(self, tokens):
        grey = torch.full((3,), 0.5)
        found = [[self.names[int(one)] for one in row if int(one) in self.names] for row in tokens]
        return _embed(torch.stack([(colours or [grey])[0] for colours in found]))


def colour_inferencer() -> ImageTextInferencer:
    """The model behind the methods of an inferencer."""
    return ImageTextInferencer(ColourModel(), device='cpu')
