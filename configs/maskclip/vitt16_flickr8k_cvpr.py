"""MaskCLIP of CVPR 2023: codeword distillation and masked language modelling, ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip/vitt16_flickr8k_cvpr.py

Not run with its text branch; without it: ablations/vitt16_flickr8k_cvpr_without_mlm.py.
"""

_base_ = ['../clip/vitt16_flickr8k.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            **_base_.distillation_cvpr,
            decoder=dict(**_base_.masked_decoder, width=192, num_patches=49, num_heads=3),
            # An eighth of iBOT's codewords, and a quarter of its MLP: 37 patches of 64 images pass it in each step.
            head=dict(
                type='PrototypeHead', in_channels=192, num_prototypes=1024, hidden_channels=512, bottleneck_channels=128
            ),
            loss=dict(type='CodewordLoss', num_prototypes=1024),
        ),
        mlm=dict(**_base_.mlm_cvpr, decoder=dict(type='TextDecoder', width=256, num_heads=4, depth=4)),
    ),
    # The paper's 0.999 remembers 1,000 steps, all of this run; with it codewords do not become distinct in time.
    teacher_momentum=0.99,
)
