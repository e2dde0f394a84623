"""Mask R-CNN's heads with boxes in float32. Not imported with ``mmmaskclip.models``: mmdet takes seconds.

Under ``--amp`` mmdet computes anchors, proposals, boxes, RoIs and NMS in the precision of the heads' outputs. bfloat16
has 8 significant bits: between 512 and 1024 pixels it represents every fourth, so that boxes are up to 8 pixels off.
mmcv's batched NMS, which shifts each class by the image's size, then suppresses nothing. Here convolutions and linear
layers stay in the lower precision; what they return is float32, and so is all that follows.
"""

from typing import Any

from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class Float32RPNHead(RPNHead):
    """mmdet's ``RPNHead`` whose scores, and so anchors, proposals and their NMS, are float32 under autocast."""

    def forward_single(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in super().forward_single(x))


@MODELS.register_module()
class Float32BBoxHead(Shared2FCBBoxHead):
    """mmdet's ``Shared2FCBBoxHead`` whose scores, and so boxes and their NMS, are float32 under autocast."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.float() for output in super().forward(x))


@MODELS.register_module()
class Float32MaskHead(FCNMaskHead):
    """mmdet's ``FCNMaskHead`` whose logits are float32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


@MODELS.register_module()
class Float32RoIExtractor(SingleRoIExtractor):
    """mmdet's ``SingleRoIExtractor``, which casts RoIs to the features' precision: the features are float32 here."""

    def forward(self, feats: tuple[Tensor, ...], rois: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return super().forward(tuple(feat.float() for feat in feats), rois, *args, **kwargs)
