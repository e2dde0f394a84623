"""Image-text datasets and what turns their samples into batches."""

from .collate import collate_image_text
from .image_label_shards import ImageLabelShards
from .image_text_pairs import ImageTextPairs
from .image_text_shards import ImageTextShards
from .indexed_shards import IndexedShards
from .labelled_images import LabelledImages
from .mixed_sources import MixedSources
from .segmentation_images import SegmentationImages
from .transforms.crops import RepeatCrops

__all__ = [
    'ImageLabelShards',
    'ImageTextPairs',
    'ImageTextShards',
    'IndexedShards',
    'LabelledImages',
    'MixedSources',
    'RepeatCrops',
    'SegmentationImages',
    'collate_image_text',
]
