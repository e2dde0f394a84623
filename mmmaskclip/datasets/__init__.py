"""Image-text datasets and what turns their samples into batches."""

from .collate import collate_image_text
from .image_text_pairs import ImageTextPairs
from .image_text_shards import ImageTextShards
from .indexed_shards import IndexedShards

__all__ = ['ImageTextPairs', 'ImageTextShards', 'IndexedShards', 'collate_image_text']
