"""CLIP with the pairwise sigmoid loss of SigLIP (Zhai et al. 2023), ViT-B/16, LAION-20M, 25 epochs.

tools/dist_train.sh configs/siglip/vitb16_laion20m.py 32

No paper has it at this scale. Here: not run at full scale.
"""

_base_ = '../clip/vitb16_laion20m.py'

# Temperature 0.1 and bias -10 at the start (Zhai et al. 2023, section 3.2): most of the pairs are negatives.
model = dict(
    objectives=dict(
        contrast=dict(loss=dict(_delete_=True, type='SigmoidLoss', init_bias=-10.0), init_temperature=0.1),
    ),
)
