"""Dense tuning of CLIP, ViT-B/16, on images alone: regions look like their crops (CLIPSelf, Wu et al. 2024).

python tools/train.py configs/dense_tune/regions_vitb16.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. The image embedding is held, which
CLIPSelf does not do. Not run.
"""

_base_ = ['../pretrained/openclip_vitb16.py', './_base_/images.py']

model = dict(
    **_base_.images_alone,
    objectives=dict(contrast=_base_.temperature, preserve=_base_.preserve, regions=dict(type='RegionCropDistillation')),
)
