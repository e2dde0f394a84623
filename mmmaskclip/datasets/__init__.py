"""Image-text datasets and what turns their samples into batches."""

from .collate import collate_image_text
from .image_text_shards import ImageTextShards

__all__ = ['ImageTextShards', 'collate_image_text']
