from mmmaskclip.models.objectives import masking, targets  # noqa: F401 (registers their parts)
from mmmaskclip.models.objectives.base import ComparingObjective, Objective
from mmmaskclip.models.objectives.denoised_distillation import DenoisedDistillation
from mmmaskclip.models.objectives.image_contrast import ImageContrast
from mmmaskclip.models.objectives.image_text_contrast import FixedTemperature, ImageTextContrast
from mmmaskclip.models.objectives.local_to_global_distillation import LocalToGlobalDistillation
from mmmaskclip.models.objectives.masked_language_modeling import MaskedLanguageModeling
from mmmaskclip.models.objectives.masked_self_distillation import MaskedSelfDistillation
from mmmaskclip.models.objectives.patch_correlation import PatchCorrelation
from mmmaskclip.models.objectives.pixel_reconstruction import PixelReconstruction
from mmmaskclip.models.objectives.preserve_global import PreserveGlobal
from mmmaskclip.models.objectives.read_out_distillation import ReadOutDistillation
from mmmaskclip.models.objectives.region_crop_distillation import RegionCropDistillation
from mmmaskclip.models.objectives.text_pooled_contrast import TextPooledContrast
from mmmaskclip.models.objectives.visual_token_prediction import VisualTokenPrediction

__all__ = [
    'ComparingObjective',
    'DenoisedDistillation',
    'FixedTemperature',
    'ImageContrast',
    'ImageTextContrast',
    'LocalToGlobalDistillation',
    'MaskedLanguageModeling',
    'MaskedSelfDistillation',
    'Objective',
    'PatchCorrelation',
    'PixelReconstruction',
    'PreserveGlobal',
    'ReadOutDistillation',
    'RegionCropDistillation',
    'TextPooledContrast',
    'VisualTokenPrediction',
]
