"""Image-text datasets and what turns their samples into batches.

Rooms, from the lowest up: ``transforms`` (one sample), ``prompts`` (class names), ``training``, ``evaluation``;
``scenes`` generates data.
"""

from mmmaskclip.datasets.evaluation import CocoRegions, EvaluationShards, LabelledImages, SegmentationImages
from mmmaskclip.datasets.training import (
    ClassCaptionShards,
    ImageTextPairs,
    ImageTextShards,
    MixedSources,
    collate_image_text,
)
from mmmaskclip.datasets.transforms import RepeatCrops

__all__ = [
    'ClassCaptionShards',
    'CocoRegions',
    'EvaluationShards',
    'ImageTextPairs',
    'ImageTextShards',
    'LabelledImages',
    'MixedSources',
    'RepeatCrops',
    'SegmentationImages',
    'collate_image_text',
]
