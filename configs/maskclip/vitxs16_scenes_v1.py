"""MaskCLIP in the form of arXiv v1 (Smooth-L1 on raw EMA features) on generated scenes of coloured shapes.

python tools/dataset_converters/make_scenes.py data/scenes
python tools/train.py configs/maskclip/vitxs16_scenes_v1.py

Measured on 2026-11-22, two cores, four minutes, 6,000 scenes, held-out scenes: classification top-1 41.5 %
(chance 2.5), image to text R@1 17.9 % and text to image R@1 11.0 % (chance 0.14), segmentation mIoU 11.2 % (untrained
0.4). These patches tell what is in the image, hardly where; those of vitxs8_scenes_local_v1.py do.
"""

_base_ = ['../clip/vitxs16_scenes.py', '../_base_/objectives/distillation.py']

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(**_base_.distillation_v1, decoder=_base_.decoder_vitxs16_64),
    ),
    # The paper's 0.999 needs 1,000 steps to forget; this run has about 1,100.
    teacher_momentum=dict(begin=0.99, end=0.999),
)
