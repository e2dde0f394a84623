"""CLIP with the pairwise sigmoid loss of SigLIP (Zhai et al. 2023), ViT-Ti/16 at 112 px, on Flickr8k.

python tools/train.py configs/siglip/vitt16_flickr8k.py

Not run.
"""

_base_ = '../clip/vitt16_flickr8k.py'

# Temperature 0.1 and bias -10 at the start (Zhai et al. 2023, section 3.2): most of the pairs are negatives.
model = dict(
    objectives=dict(
        contrast=dict(loss=dict(_delete_=True, type='SigmoidLoss', init_bias=-10.0), init_temperature=0.1),
    ),
)
