from .base import ComparingObjective, Objective
from .image_contrast import ImageContrast
from .image_text_contrast import ImageTextContrast
from .local_to_global_distillation import LocalToGlobalDistillation
from .masked_language_modeling import MaskedLanguageModeling
from .masked_self_distillation import MaskedSelfDistillation
from .pixel_reconstruction import PixelReconstruction
from .visual_token_prediction import VisualTokenPrediction

__all__ = [
    'ComparingObjective',
    'ImageContrast',
    'ImageTextContrast',
    'LocalToGlobalDistillation',
    'MaskedLanguageModeling',
    'MaskedSelfDistillation',
    'Objective',
    'PixelReconstruction',
    'VisualTokenPrediction',
]
