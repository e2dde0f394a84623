"""Registers added to CLIP, ViT-B/16, on images alone: patches without artifacts (PH-Reg, Chen et al. 2025).

python tools/train.py configs/dense_tune/registers_vitb16.py --cfg-options load_from=WEIGHTS \
    model.objectives.registers.frozen.checkpoint=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded; both places need it. The class
token is held by the objective itself: a teacher that starts as the student would have the new registers. Not run.
"""

_base_ = ['../pretrained/openclip_vitb16.py', './_base_/images.py']

model = dict(
    image_encoder=dict(num_registers=16),
    image_projection=dict(frozen=True),
    **_base_.images_alone,
    objectives=dict(
        contrast=_base_.temperature,
        registers=dict(
            type='DenoisedDistillation',
            frozen=dict(
                encoder=dict(
                    type='CLIPVisionTransformer',
                    arch='ViT-B/16',
                    img_size=224,
                    pre_norm=True,
                    norm_cfg=dict(type='LN', eps=1e-5),
                )
            ),
        ),
    ),
)
