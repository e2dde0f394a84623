from .image_text_pretrainer import ImageTextPretrainer
from .preprocessor import ImageTextPreprocessor, ImageViewsPreprocessor

__all__ = [
    'ImageTextPreprocessor',
    'ImageTextPretrainer',
    'ImageViewsPreprocessor',
]
