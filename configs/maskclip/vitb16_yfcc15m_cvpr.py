"""MaskCLIP of CVPR 2023: codeword distillation and masked language modelling, ViT-B/16, YFCC15M, 25 epochs.

tools/dist_train.sh configs/maskclip/vitb16_yfcc15m_cvpr.py 32

Published: ImageNet zero-shot 44.5, linear 73.7, fine-tuned 83.6; Flickr30K I2T/T2I R@1 70.1/45.6; COCO 41.4/25.5. An
independent reproduction without the text branch (A-CLIP): 42.7; 60.0/38.8; 34.1/21.2. Here: not run at full scale. Form
and sizes of the quantizer are stated nowhere; they are iBOT's, but for how its weights start (PrototypeHead).
"""

_base_ = ['../clip/vitb16_yfcc15m.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            **_base_.distillation_cvpr,
            decoder=_base_.decoder_vitb16,
            head=dict(**_base_.codewords_vitb16, num_prototypes=8192, hidden_channels=2048),
            # iBOT's temperatures; the default of the loss, DINO's, is for short runs. iBOT multiplies in float16; TF32
            # has as many digits, and float32's exponents.
            loss=dict(
                type='CodewordLoss',
                num_prototypes=8192,
                teacher_temperature=dict(begin=0.04, end=0.07, stop=0.1),
                tf32=True,
            ),
        ),
        mlm=dict(**_base_.mlm_cvpr, decoder=dict(type='TextDecoder', width=512, num_heads=8, depth=4)),
    ),
    teacher_momentum=dict(begin=0.999, end=0.9999),
)

# Supplement, section B; SLIP's recipe warms up from 1e-6.
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=1, convert_to_iter_based=True),
]
