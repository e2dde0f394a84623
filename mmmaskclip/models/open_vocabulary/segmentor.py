"""A pretrained model as one of mmseg's segmentors, so that mmseg's data sets, windows and metrics apply to it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from torch import Tensor

from mmmaskclip.datasets.prompts import ClassPrompts
from mmmaskclip.models.backbones.mixed_read_outs import ReadOuts, weighted_read_outs
from mmmaskclip.models.backbones.read_outs import find_read_out
from mmmaskclip.models.backbones.semantic_feedback import SemanticFeedback
from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes
from mmmaskclip.models.open_vocabulary.dense_similarity import upsample_patches
from mmmaskclip.models.open_vocabulary.pamr import pamr
from mmmaskclip.models.open_vocabulary.patch_labels import label_patches
from mmmaskclip.models.open_vocabulary.segmentation_head import ZeroShotSegHead
from mmmaskclip.models.open_vocabulary.word_queries import WordQueries
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.registry import MODELS

BACKGROUND = 'background'


@MODELS.register_module()
class ZeroShotSegmentor(EncoderDecoder):
    """mmseg's ``EncoderDecoder`` made of a pretrained model and a ``ZeroShotSegHead``.

    It holds ``pretrainer`` itself, no copy, and encodes the class names once, here. Images of any size are seen whole
    or through mmseg's sliding window.

    Args:
        pretrainer: The model with its weights, in evaluation mode. Its mean and std apply.
        classes: Prompt file, or the names (or lists of synonyms), in the order of the mask values. With a
            ``background_threshold`` the background is the value 0, and may be left out here.
        templates: Prompt file or templates. Defaults to those of Zhou et al. and of MaskCLIP, ``'scenes_85'``.
        read_out: One read-out, or several, whose similarities are averaged, see
            :func:`~mmmaskclip.models.backbones.mixed_read_outs.weighted_read_outs`. Defaults to ``'patch'``.
        background_threshold: See :class:`ZeroShotSegHead`. Defaults to None.
        probability_scale: See :class:`ZeroShotSegHead`. Defaults to 10.
        probability_offset: See :class:`ZeroShotSegHead`. Defaults to 0.25.
        queries: Options of :class:`~mmmaskclip.models.open_vocabulary.word_queries.WordQueries`, ``dict()`` for its
            defaults: every synonym is compared by itself, in place of the mean of a class's synonyms. Its ``threshold``
            takes the place of ``background_threshold``. Defaults to None.
        window_softmax: Scale of a softmax over the classes in each window, before windows are averaged. 1 is dino.txt's
            (Jose et al., CVPR 2025; notebook of DINOv3). Defaults to None: cosines are averaged.
        stitched: Whether the last block attends over all windows of an image, see
            :class:`~mmmaskclip.models.backbones.last_block.StitchedBlock`. Defaults to False.
        refinement: Options of :func:`~mmmaskclip.models.open_vocabulary.pamr.pamr`, which refines the maps of the whole
            image by its pixels; ``dict()`` for its defaults. Defaults to None: no refinement.
        test_cfg: ``dict(mode='whole')`` or ``dict(mode='slide', crop_size=(H, W), stride=(h, w))`` in pixels. Defaults
            to ``dict(mode='whole')``.

    Raises:
        ValueError: If ``read_out`` is unknown, ``'background'`` is among the classes where it cannot be, or options
            exclude each other.
    """

    def __init__(
        self,
        pretrainer: ImageTextPretrainer,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] = 'scenes_85',
        read_out: ReadOuts = 'patch',
        background_threshold: float | None = None,
        probability_scale: float = 10.0,
        probability_offset: float = 0.25,
        queries: dict | None = None,
        window_softmax: float | None = None,
        stitched: bool = False,
        refinement: dict | None = None,
        test_cfg: dict | None = None,
    ) -> None:
        self.read_outs: list[tuple[float, dict]] = [
            (weight, {'name': part} if isinstance(part, str) else dict(part))
            for weight, part in weighted_read_outs(read_out)
        ]
        if stitched:
            for _, part in self.read_outs:
                find_read_out(dict(part, windows=()))
        self.stitched = stitched
        if background_threshold is not None and (queries is not None or window_softmax is not None):
            raise ValueError(
                f'background_threshold={background_threshold} is for cosines of classes: leave it out with queries '
                '(which have a threshold) and with window_softmax'
            )
        mean, std = (getattr(pretrainer.data_preprocessor, name).flatten().tolist() for name in ('mean', 'std'))
        # Skips EncoderDecoder's own __init__, which builds its parts from configs: ours exist.
        super(EncoderDecoder, self).__init__(
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=mean, std=std, bgr_to_rgb=True)
        )
        self.refinement = refinement
        self.backbone = pretrainer
        prompts = ClassPrompts(classes, templates)
        threshold = background_threshold if queries is None else queries.get('threshold')
        foreground = _foreground(prompts.classes, threshold)
        # What the mask values mean.
        prompts.classes = foreground if threshold is None else ((BACKGROUND,), *foreground)
        self.prompts = prompts
        self.window_softmax = window_softmax
        self.queries = None if queries is None else WordQueries(foreground, **queries)
        words = foreground if self.queries is None else [[word] for word in self.queries.words]
        self.decode_head = ZeroShotSegHead(
            encode_classes(pretrainer, words, prompts.templates, for_patches=True),
            background_threshold,
            probability_scale,
            probability_offset,
        )
        self.align_corners = self.decode_head.align_corners
        self.num_classes = self.out_channels = self.decode_head.num_classes
        if self.queries is not None:
            self.num_classes = self.queries.num_classes
        self.test_cfg = ConfigDict(test_cfg or dict(mode='whole'))
        self.to(next(pretrainer.parameters()).device).eval()

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor]:
        """Patch embeddings (B, D, h, w) of normalized images (B, 3, H, W), h and w rounded up to whole patches."""
        return (self._embeds(inputs),)

    def _embeds(self, images: Tensor, **options: Any) -> Tensor:
        """Mean of the read-outs' patch embeddings (B, D, h, w), whose cosines are the mean of their cosines."""
        parts = []
        for weight, read_out in self.read_outs:
            if read_out.get('feedback') is not None:
                settings = SemanticFeedback.of(read_out['feedback'])
                label = partial(label_patches, self.backbone, images, self.decode_head.class_embeds, settings)
                read_out = {**read_out, 'feedback': replace(settings, label=label)}
            parts.append(weight * self.backbone.encode_dense(images, {**read_out, **options}))
        return torch.stack(parts).sum(0) if parts[1:] else parts[0]

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits (B, K, H, W) of normalized images (B, 3, H, W). Sizes come from the images, not from the metas.

        mmseg's own method would stretch the padded patches over the image and shift everything in it.
        """
        return self._to_pixels(self.decode_head(self.extract_feat(inputs)), inputs.shape[2:])

    def _to_pixels(self, logits: Tensor, size: Sequence[int]) -> Tensor:
        """Logits of patches (B, K, h, w) at the pixels of the images or windows, whose size is given."""
        logits = upsample_patches(logits, size, self.backbone.image_encoder.unpadded_fraction(size))
        return logits if self.window_softmax is None else (self.window_softmax * logits).softmax(dim=1)

    def inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits (B, K, H, W) of whole images, refined where a refinement is configured."""
        logits = super().inference(inputs, batch_img_metas)
        return logits if self.refinement is None else pamr(inputs, logits, **self.refinement)

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """mmseg's; ``stitched``, the windows of an image go through the tower together."""
        if not self.stitched:
            return super().slide_inference(inputs, batch_img_metas)
        return torch.cat([self._stitched(image[None]) for image in inputs])

    def _stitched(self, image: Tensor) -> Tensor:
        """Logits (1, K, H, W) of one image (1, 3, H, W): the mean over the windows at the places that mmseg takes."""
        size = image.shape[2:]
        sides = zip(size, self.test_cfg.crop_size, self.test_cfg.stride, strict=True)
        rows, columns = (_window_starts(*side) for side in sides)
        height, width = (min(side, crop) for side, crop in zip(size, self.test_cfg.crop_size, strict=True))
        starts = [(row, column) for row in rows for column in columns]
        windows = torch.cat([image[..., y : y + height, x : x + width] for y, x in starts])  # (W, 3, h, w)
        patch = self.backbone.image_encoder.patch_size
        places = [(y / patch[0], x / patch[1]) for y, x in starts]
        embeds = self._embeds(windows, windows=places)  # (W, D, h, w)
        logits = self._to_pixels(self.decode_head((embeds,)), windows.shape[2:])  # (W, K, H, W)
        total = image.new_zeros(1, logits.shape[1], *size)
        count = image.new_zeros(1, 1, *size)
        for (y, x), one in zip(starts, logits, strict=True):
            total[..., y : y + height, x : x + width] += one
            count[..., y : y + height, x : x + width] += 1
        return total / count

    def postprocess_result(self, seg_logits: Tensor, data_samples: list | None = None) -> list:
        """mmseg's, at the size of the image file; with ``queries`` their decision in place of the largest logit."""
        samples = super().postprocess_result(seg_logits, data_samples)
        if self.queries is not None:
            for sample in samples:
                sample.pred_sem_seg.data = self.queries.choose(sample.seg_logits.data)
        return samples


def _window_starts(side: int, crop: int, stride: int) -> list[int]:
    """Where windows start along a side, as mmseg's ``slide_inference`` places them: the last ends with the image."""
    count = max(side - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride + crop, side) - crop, 0) for index in range(count)]


def _foreground(classes: tuple[tuple[str, ...], ...], threshold: float | None) -> tuple[tuple[str, ...], ...]:
    if any(BACKGROUND in names for names in classes[threshold is not None :]):
        raise ValueError(
            f'{BACKGROUND!r} is among the classes, but no text describes it: give a background_threshold and make it '
            f'the first class, or leave it out; got background_threshold={threshold} and {len(classes)} classes'
        )
    return classes[1:] if BACKGROUND in classes[0] else classes
