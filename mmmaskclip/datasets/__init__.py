"""Image-text datasets and what turns their samples into batches."""

from mmmaskclip.datasets.evaluation.indexed_shards import IndexedShards
from mmmaskclip.datasets.evaluation.labelled_images import LabelledImages
from mmmaskclip.datasets.evaluation.segmentation_images import SegmentationImages
from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.datasets.training.image_label_shards import ImageLabelShards
from mmmaskclip.datasets.training.image_text_pairs import ImageTextPairs
from mmmaskclip.datasets.training.image_text_shards import ImageTextShards
from mmmaskclip.datasets.training.mixed_sources import MixedSources
from mmmaskclip.datasets.transforms.crops import RepeatCrops

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
