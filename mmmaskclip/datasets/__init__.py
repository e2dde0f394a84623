"""Image-text datasets and what turns their samples into batches."""

from .collate import collate_image_text

__all__ = ['collate_image_text']
