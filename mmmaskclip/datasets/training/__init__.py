"""Image-text pairs for training: readers, sample order, and batches."""

from mmmaskclip.datasets.training.auto import FoundData, build_auto, find_data
from mmmaskclip.datasets.training.class_caption_shards import ClassCaptionShards
from mmmaskclip.datasets.training.collate import collate_image_text, collate_labelled
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import ImageTextShards
from mmmaskclip.datasets.training.mixed_sources import MixedSources

__all__ = [
    'ClassCaptionShards',
    'FoundData',
    'ImageTextPairs',
    'ImageTextShards',
    'MixedSources',
    'build_auto',
    'collate_image_text',
    'collate_labelled',
    'find_data',
]
