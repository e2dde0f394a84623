"""MaskCLIP v1 (arXiv 2208.12262v1), ViT-B/16, LAION-20M, 25 epochs: the paper's run on 32 GPUs.

tools/dist_train.sh configs/maskclip/vitb16_laion20m_v1.py 32

Published (Table 1): ImageNet zero-shot 46.6, linear 72.5, fine-tuned 83.8; Flickr30K I2T/T2I R@1 64.9/48.1; 1.56x the
time of CLIP, 17 GB per GPU at 128 images. Here: not run at full scale.
"""

_base_ = ['../clip/vitb16_laion20m.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(**_base_.distillation_v1, decoder=_base_.decoder_vitb16),
    ),
    teacher_momentum=dict(begin=0.999, end=0.9999),
)
