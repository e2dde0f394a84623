from mmmaskclip.models.pretrainers.image_text_pretrainer import ImageTextPretrainer
from mmmaskclip.models.pretrainers.preprocessor import ImageTextPreprocessor, ImageViewsPreprocessor

__all__ = [
    'ImageTextPreprocessor',
    'ImageTextPretrainer',
    'ImageViewsPreprocessor',
]
