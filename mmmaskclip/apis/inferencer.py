"""A pretrained model in a few lines of Python: embed, classify, retrieve, segment, see where a word is in an image."""

from collections.abc import Sequence
from os import PathLike
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from mmmaskclip.apis.images import ImageLike, open_image
from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.models.backbones.read_outs import ReadOut
from mmmaskclip.models.open_vocabulary import encode_classes, encode_texts
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import MODELS


class ImageTextInferencer:
    """Uses a pretrained model on images and texts. Ours, because mmpretrain's inferencers take one input kind each and
    look models up in mmpretrain's list.

    Args:
        config: Config of the pretraining run, its path, or a model that is already built (then it is used as it is).
        checkpoint: Path of the weights; nothing in the file is executed. Default: the model starts untrained.
        device: Where it runs, e.g. ``'cuda:1'``. Default: the GPU if there is one.
    """

    def __init__(
        self,
        config: Config | nn.Module | str | PathLike,
        checkpoint: str | PathLike | None = None,
        device: str | None = None,
    ) -> None:
        if isinstance(config, nn.Module):
            model = config
        else:
            config = config if isinstance(config, Config) else Config.fromfile(str(config))
            model = MODELS.build(config.model)
            model.init_weights()
        if checkpoint is not None:
            load_weights(model, checkpoint)
        self.device = torch.device(device or ('cuda' if torch.cuda.is_available() else 'cpu'))
        self.model = model.to(self.device).eval()
        image_encoder: Any = model.image_encoder
        self.image_size: int = min(image_encoder.img_size)
        self.patch_size: int = self.image_size // min(image_encoder.patch_resolution)

    @torch.no_grad()
    def embed_images(self, images: Sequence[ImageLike], batch_size: int = 64) -> Tensor:
        """Embeds images, each resized to the model's size by its shorter side and cropped in the middle.

        Args:
            images: B paths or PIL images.
            batch_size: How many are encoded at once.

        Returns:
            (B, D), L2-normalized, float32.
        """
        embeds = []
        for start in range(0, len(images), batch_size):
            pixels = [
                TF.center_crop(TF.resize(_pixels(image), self.image_size), self.image_size)
                for image in images[start : start + batch_size]
            ]
            embeds.append(self.model.encode_image(self._normalized(torch.stack(pixels))))
        return torch.cat(embeds)

    def embed_texts(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Embeds texts.

        Args:
            texts: T sentences.
            batch_size: How many are encoded at once.

        Returns:
            (T, D), L2-normalized, float32.
        """
        return encode_texts(self.model, texts, batch_size)

    @torch.no_grad()
    def classify(
        self,
        images: Sequence[ImageLike],
        classes: Sequence[str | Sequence[str]],
        templates: Sequence[str] = ('a photo of a {}.',),
    ) -> Tensor:
        """Zero-shot classification.

        Args:
            images: B paths or PIL images.
            classes: C class names, or lists of synonyms.
            templates: Sentences with one ``{}`` for the class name.

        Returns:
            (B, C) probabilities, under the learned temperature.
        """
        class_embeds = encode_classes(self.model, classes, templates)
        return self.model.logits(self.embed_images(images), class_embeds).softmax(-1)

    def retrieve(self, texts: Sequence[str], images: Sequence[ImageLike], topk: int = 5) -> tuple[Tensor, Tensor]:
        """Finds the images that fit each text best.

        Args:
            texts: T sentences.
            images: B paths or PIL images.
            topk: How many to find; all where there are fewer.

        Returns:
            Indices into ``images``, best first, and their cosine similarities: both (T, min(topk, B)).
        """
        scores = self.embed_texts(texts) @ self.embed_images(images).T
        values, indices = scores.topk(min(topk, scores.shape[1]))
        return indices, values

    @torch.no_grad()
    def similarity_maps(
        self,
        image: ImageLike,
        texts: Sequence[str],
        size: int | None = None,
        mode: str = 'interpolate',
        read_out: ReadOut = 'patch',
    ) -> Tensor:
        """Where in an image a word or caption is: cosine similarity of every patch with it.

        Args:
            image: Path or PIL image of any size, seen as a whole, whatever its aspect ratio.
            texts: T words or sentences, used as they are.
            size: Shorter side in pixels at which the model sees the image; the nearest number of whole patches is
                taken. Default: the size it was trained at.
            mode: ``'interpolate'``: the image in one piece, the model's positions interpolated. ``'sliding'``: windows
                of the size it was trained at, half a window apart, their maps averaged (as MaskCLIP v1 segments).
                Defaults to ``'interpolate'``.
            read_out: See :meth:`~mmmaskclip.models.backbones.CLIPVisionTransformer.dense`. Defaults to ``'patch'``.

        Returns:
            (T, H, W), upsampled (bilinear) to the image's own size.

        Raises:
            ValueError: If ``mode`` or ``read_out`` is unknown, or ``size`` is not positive.
        """
        pixels = _pixels(image)
        maps = self._maps(pixels, self.embed_texts(texts), size, mode, read_out)
        return upsample_patches(maps[None], pixels.shape[1:])[0]

    @torch.no_grad()
    def segment(
        self,
        image: ImageLike,
        classes: Sequence[str | Sequence[str]],
        templates: Sequence[str] = ('a photo of a {}.',),
        size: int | None = None,
        mode: str = 'interpolate',
        read_out: ReadOut = 'patch',
    ) -> Tensor:
        """Zero-shot segmentation: every pixel is of the class that its patch is most similar to.

        Args:
            image: Path or PIL image of any size.
            classes: C class names, or lists of synonyms. There is no background but a class of that name.
            templates: Sentences with one ``{}`` for the class name.
            size: See :meth:`similarity_maps`.
            mode: See :meth:`similarity_maps`.
            read_out: See :meth:`similarity_maps`.

        Returns:
            int64 (H, W), class indices, at the image's own size.

        Raises:
            ValueError: If ``mode`` or ``read_out`` is unknown, ``size`` is not positive, or there is no class or no
                template.
        """
        pixels = _pixels(image)
        maps = self._maps(pixels, encode_classes(self.model, classes, templates), size, mode, read_out)
        best = maps.new_full(pixels.shape[1:], -torch.inf)
        labels = torch.zeros_like(best, dtype=torch.long)
        # One class after the other: 150 maps of a photo's full size need gigabytes. Those that sliding windows add up
        # are of the size at which the model sees the image, mostly far smaller.
        for index in range(len(maps)):
            scores = upsample_patches(maps[None, index : index + 1], pixels.shape[1:])[0, 0]
            labels[scores > best] = index
            best = best.maximum(scores)
        return labels

    def _maps(self, pixels: Tensor, embeds: Tensor, size: int | None, mode: str, read_out: ReadOut) -> Tensor:
        """Similarities of an image's patches, or of its pixels as the model sees it, with texts (T, D): (T, h, w)."""
        if mode not in ('interpolate', 'sliding'):
            raise ValueError(f"mode={mode!r}: choose 'interpolate' or 'sliding'")
        if size is not None and size < 1:
            raise ValueError(f'size={size}: give the shorter side in pixels, at least 1, or None')
        # Whole patches: the tower would pad the rest, and the maps would be shifted against the image.
        scale = (self.image_size if size is None else size) / (min(pixels.shape[1:]) * self.patch_size)
        seen = [max(1, round(side * scale)) * self.patch_size for side in pixels.shape[1:]]
        image = self._normalized(TF.resize(pixels, seen)[None])
        if mode == 'interpolate' or max(seen) <= self.image_size:
            return self._patch_similarities(image, embeds, read_out)[0]
        # As mmseg's EncoderDecoder.slide_inference, which needs a segmentor of mmseg around the model; and several
        # windows at once.
        window = [min(side, self.image_size) for side in seen]
        places = [(top, left) for top in _starts(seen[0], window[0]) for left in _starts(seen[1], window[1])]
        total, count = embeds.new_zeros((len(embeds), *seen)), embeds.new_zeros(seen)
        for some in (places[start : start + 16] for start in range(0, len(places), 16)):
            crops = torch.cat([TF.crop(image, *place, *window) for place in some])
            maps = self._patch_similarities(crops, embeds, read_out)
            for (top, left), crop in zip(some, maps, strict=True):
                total[:, top : top + window[0], left : left + window[1]] += upsample_patches(crop[None], window)[0]
                count[top : top + window[0], left : left + window[1]] += 1
        return total / count

    def _patch_similarities(self, images: Tensor, embeds: Tensor, read_out: ReadOut) -> Tensor:
        """Cosine similarities of the patches of normalized images (B, 3, H, W) with texts (T, D): (B, T, h, w)."""
        return dense_similarity(self.model.encode_dense(images, read_out), embeds)

    def _normalized(self, pixels: Tensor) -> Tensor:
        return self.model.data_preprocessor({'image': pixels})['image']


def _pixels(image: ImageLike) -> Tensor:
    """An image as uint8 (3, H, W), turned as its camera says."""
    return TF.pil_to_tensor(open_image(image))


def _starts(side: int, window: int) -> list[int]:
    """Where windows start that are half of their size apart; the last one ends with the image."""
    stride = max(1, window // 2)
    return [min(start, side - window) for start in range(0, side - window + stride, stride)]
