"""MaskCLIP of CVPR 2023: codeword distillation and masked language modelling, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip/vitt16_flickr8k_cvpr.py

Not run with its text branch; without it: ablations/vitt16_flickr8k_cvpr_without_mlm.py.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(**_base_.distillation_cvpr, **_base_.codewords_vitt16, decoder=_base_.decoder_vitt16_112),
        mlm=dict(**_base_.mlm_cvpr, decoder=dict(type='TextDecoder', width=256, num_heads=4, depth=4)),
    ),
    # The paper's 0.999 remembers 1,000 steps, all of this run; with it codewords do not become distinct in time.
    teacher_momentum=0.99,
)
