"""MaskCLIP in the form of the CVPR version (codeword cross-entropy, no text branch), ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/maskclip/vitt16_flickr8k_codeword.py

Measured on 2026-11-22, two cores, bfloat16, seed 0, on the 1,000 dev images: image to text R@1/5/10 2.0/7.2/11.1, text
to image 1.6/5.6/9.6 %; 1.32 s per step, 950 steps. More in docs/results.md.
"""

_base_ = '../clip/vitt16_flickr8k.py'

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            type='MaskedSelfDistillation',
            mask=dict(type='RandomMask', ratio=0.75),
            decoder=dict(type='MaskedTokenDecoder', width=192, num_patches=49, num_heads=3, depth=1),
            target='ema',
            # An eighth of iBOT's codewords, and a quarter of its MLP: 37 patches of 64 images pass it in each step.
            head=dict(
                type='PrototypeHead',
                in_channels=192,
                num_prototypes=1024,
                hidden_channels=512,
                bottleneck_channels=128,
            ),
            loss=dict(type='CodewordLoss', num_prototypes=1024),
            loss_on='masked',
            weight=0.05,
        ),
    ),
    teacher_momentum=dict(begin=0.99, end=0.999),
)
