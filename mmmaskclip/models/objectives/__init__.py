from .base import Objective
from .image_text_contrast import ImageTextContrast
from .masked_self_distillation import MaskedSelfDistillation

__all__ = ['ImageTextContrast', 'MaskedSelfDistillation', 'Objective']
