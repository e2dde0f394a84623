"""Dense tuning of CLIP, ViT-L/14, on images alone: regions look like their crops (CLIPSelf, Wu et al. 2024).

python tools/train.py configs/dense_tune/regions_vitl14.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. Not run.
"""

_base_ = ['../pretrained/openclip_vitl14.py', './_base_/images.py']

model = dict(
    text_encoder=_base_.frozen,
    text_projection=_base_.frozen,
    teacher_momentum=1.0,
    objectives=dict(contrast=_base_.temperature, preserve=_base_.preserve, regions=dict(type='RegionCropDistillation')),
)
