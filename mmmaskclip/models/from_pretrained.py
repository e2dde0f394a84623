"""A pretrained CLIP from a file, a repository or a name alone: model, preprocessing of images, tokenizer.

No config is needed: the weights and the configs beside them describe the towers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.checkpoints.safe_load import read_checkpoint, state_dict_of
from mmmaskclip.checkpoints.sources import find_weights
from mmmaskclip.checkpoints.towers import tower_config
from mmmaskclip.checkpoints.translate import without_outer_prefix
from mmmaskclip.checkpoints.weights import load_all
from mmmaskclip.datasets.transforms.resize import resize_for_model
from mmmaskclip.datasets.transforms.tokenize import pad_tokens
from mmmaskclip.registry import MODELS


@dataclass(frozen=True)
class PretrainedCLIP:
    """A model with what belongs to it.

    Attributes:
        model: :class:`~mmmaskclip.models.pretrainers.ImageTextPretrainer`, in eval mode, on the CPU.
        preprocess: A PIL image to normalized pixels (3, H, W): ``model.encode_image(preprocess(image)[None])``.
        tokenizer: Texts to token ids (T, L): ``model.encode_text(tokenizer(['a dog']))``.
        config: The config of the model.
        path: The file of weights.
    """

    model: Any
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[list[str]], Tensor]
    config: dict[str, Any]
    path: str


def from_pretrained(source: str | os.PathLike, quick_gelu: bool | None = None) -> PretrainedCLIP:
    """Load a pretrained CLIP; nothing in its files is executed.

    Args:
        source: A checkpoint of ours; a file or folder of OpenAI's, OpenCLIP's or Hugging Face's CLIP or SigLIP, its ``https://``
            address, ``'hf://OWNER/REPOSITORY'`` or ``'openclip:ARCHITECTURE/TAG'``; see
            :func:`~mmmaskclip.checkpoints.sources.find_weights`.
        quick_gelu: The activation of a file that does not say it and has no config beside it. Defaults to None.

    Raises:
        FileNotFoundError, ImportError: As :func:`~mmmaskclip.checkpoints.sources.find_weights`.
        ValueError: If the file is damaged, or of a model that cannot be built here; the message names the nearest known
            tower and how it differs. See :func:`~mmmaskclip.checkpoints.towers.tower_config`.
    """
    config, state_dict, path = pretrained_config(source, quick_gelu)
    config.pop('compiled', None)
    model = MODELS.build(config)
    load_all(model, state_dict, path)
    return PretrainedCLIP(model.eval(), preprocessing(model), tokenizer_of(model.text_encoder), config, path)


def pretrained_config(
    source: str | os.PathLike, quick_gelu: bool | None = None
) -> tuple[dict[str, Any], dict[str, Tensor], str]:
    """Config, weights and file of a pretrained CLIP, of which nothing is built; see :func:`from_pretrained`."""
    found = find_weights(source)
    checkpoint = read_checkpoint(found.path)
    state_dict = without_outer_prefix(state_dict_of(checkpoint, found.path))
    return tower_config(checkpoint, state_dict, found, quick_gelu), state_dict, found.path


def preprocessing(model: Any) -> Callable[[Image.Image], Tensor]:
    """The resize, crop and normalization of images that a model was trained with, as a function of a PIL image."""
    settings, size = model.data_preprocessor, list(model.image_encoder.img_size)
    how = (settings.interpolation, settings.resize_mode, model.image_encoder.patch_size[0])

    def preprocess(image: Image.Image) -> Tensor:
        resized = resize_for_model(image.convert('RGB'), size, *how)
        mean, std = settings.mean.cpu(), settings.std.cpu()
        return (TF.pil_to_tensor(resized).float() - mean) / std  # (3, H, W)

    return preprocess


def tokenizer_of(text_encoder: Any) -> Callable[[list[str]], Tensor]:
    """The tokenizer of a text tower: texts to token ids (T, L), cut off at the tower's length."""

    def tokens(texts: list[str]) -> Tensor:
        return pad_tokens(text_encoder.tokenize(texts))

    return tokens


def image_tower_of(model: Any) -> Any:
    """Find the image tower of a model of images and texts.

    Raises:
        TypeError: If it is another model, such as MAE or a segmentor.
    """
    if not hasattr(model, 'image_encoder'):
        raise TypeError(
            f'{type(model).__name__} has no image_encoder: give a model that is pretrained on images and texts, such '
            'as those of configs/clip and configs/maskclip'
        )
    return model.image_encoder
