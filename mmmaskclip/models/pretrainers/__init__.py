from .image_text_pretrainer import ImageTextPretrainer
from .preprocessor import ImageTextPreprocessor

__all__ = [
    'ImageTextPreprocessor',
    'ImageTextPretrainer',
]
