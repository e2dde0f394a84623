"""MaskCLIP of CVPR 2023: codeword distillation and masked language modelling, on generated scenes of coloured shapes.

python tools/train.py configs/maskclip/vitxs16_scenes_cvpr.py

Measured on 2026-11-22, two cores, seeds 0 and 1, held-out scenes: classification top-1 41.0 %, image to text R@1 18.3
%, text to image R@1 10.9 %, segmentation mIoU 11.8 %. More in docs/results.md.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(**_base_.distillation_cvpr, **_base_.codewords_vitxs16, decoder=_base_.decoder_vitxs16_64),
        mlm=dict(**_base_.mlm_cvpr, decoder=dict(type='TextDecoder', width=128, num_heads=4, depth=2)),
    ),
    # The paper's 0.999 remembers 1,000 steps, all of this run; with it codewords do not become distinct in time.
    teacher_momentum=0.99,
)
