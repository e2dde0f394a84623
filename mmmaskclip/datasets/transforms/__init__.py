"""Transforms of one sample: decode and crop the image, turn the caption into token ids."""

from mmmaskclip.datasets.transforms.crops import RepeatCrops
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, decode_image
from mmmaskclip.datasets.transforms.resize import ResizeToPatches
from mmmaskclip.datasets.transforms.tokenize import is_blank, pad_tokens, tokenize
from mmmaskclip.datasets.transforms.views import ImageViews

__all__ = [
    'DEFAULT_MAX_PIXELS',
    'ImageViews',
    'RepeatCrops',
    'ResizeToPatches',
    'decode_image',
    'is_blank',
    'pad_tokens',
    'tokenize',
]
