r"""Ablation of MaskCLIP v1: stage two, masked distillation from a frozen CLIP, without contrast.

tools/dist_train.sh configs/maskclip/ablations/v1_two_stage.py 32 --cfg-options \
model.objectives.distillation.frozen.checkpoint=work_dirs/clip/vitb16_laion20m/iter_122050.pth

Stage one is configs/clip/vitb16_laion20m.py; the command names its last checkpoint, of 20 million pairs and 25
epochs.
Published (arXiv 2208.12262v1, Table 3): linear 65.9, fine-tuned 83.5, UperNet ADE20K 48.2; stage one 68.2, 82.6; joint
72.5, 83.8. There is no text tower: evaluate by linear probe or fine-tuning. Here: not run at full scale.
"""

_base_ = '../vitb16_laion20m_v1.py'

model = dict(
    image_projection=None,
    text_encoder=None,
    text_projection=None,
    objectives=dict(
        contrast=None,
        distillation=dict(
            target='frozen',
            frozen=dict(
                encoder=dict(type='CLIPVisionTransformer', arch='ViT-B/16', img_size=224),
                checkpoint=None,
            ),
        ),
    ),
)
