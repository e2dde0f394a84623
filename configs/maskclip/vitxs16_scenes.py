"""MaskCLIP in the form of arXiv v1 (Smooth-L1 on raw EMA features) on generated scenes of coloured shapes.

python demo/quickstart.py        generates the scenes, trains, evaluates and draws
python tools/dataset_converters/make_scenes.py data/scenes && python tools/train.py configs/maskclip/vitxs16_scenes.py
"""

_base_ = '../clip/vitxs16_scenes.py'

model = dict(
    objectives=dict(
        contrast=dict(loss=dict(reduction='sum')),
        distillation=dict(
            type='MaskedSelfDistillation',
            mask=dict(type='RandomMask', ratio=0.75),
            decoder=dict(type='MaskedTokenDecoder', width=128, num_patches=16, num_heads=4, depth=1),
            target='ema',
            loss=dict(type='FeatureRegressionLoss', beta=2.0, target_norm='none'),
            loss_on='masked',
            # The paper does not say it; ours.
            weight=1.0,
        ),
    ),
    # The paper's 0.999 forgets in 1,000 steps; this run has about 1,300.
    teacher_momentum=dict(begin=0.99, end=0.999),
)
