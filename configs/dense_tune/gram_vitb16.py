"""Dense tuning of CLIP, ViT-B/16, on images alone: crops of regions, and patch correlations held (DINOv3, DeCLIP).

python tools/train.py configs/dense_tune/gram_vitb16.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. Regions alone destroy what patches know
of each other (R-SC-CLIP, ICLR 2025). The weights are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb16.py', './_base_/images.py']

model = dict(
    **_base_.images_alone,
    objectives=dict(
        contrast=_base_.temperature,
        preserve=_base_.preserve,
        regions=dict(type='RegionCropDistillation'),
        gram=dict(type='PatchCorrelation', teacher_image_size=448),
    ),
)
