"""Dense tuning of CLIP, ViT-L/14, on images alone: regions look like their crops (CLIPSelf, Wu et al. 2024).

python tools/train.py configs/dense_tune/regions_vitl14.py --cfg-options load_from=WEIGHTS

WEIGHTS is OpenAI's file, or OpenCLIP's or Hugging Face's copy of it, as it was downloaded. Not run.
"""

_base_ = ['../pretrained/openai_vitl14.py', './_base_/images.py']

model = dict(
    **_base_.images_alone,
    objectives=dict(contrast=_base_.temperature, preserve=_base_.preserve, regions=dict(type='RegionCropDistillation')),
)
