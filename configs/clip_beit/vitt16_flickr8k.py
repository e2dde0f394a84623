"""CLIP + BEiT: contrast, and prediction of the image codes of hidden patches (MaskCLIP's baseline), ViT-Ti/16 at
112 px, on Flickr8k.

python tools/train.py configs/clip_beit/vitt16_flickr8k.py

Not run. Needs the weights of the DALL-E tokenizer (https://cdn.openai.com/dall-e/encoder.pkl) at
data/dalle/encoder.pkl.
"""

_base_ = '../clip/vitt16_flickr8k.py'

model = dict(
    objectives=dict(
        tokens=dict(
            type='VisualTokenPrediction',
            tokenizer=dict(type='DALLETokenizer', checkpoint='data/dalle/encoder.pkl'),
            in_channels=192,
            num_codes=8192,
            # 40 %, in blocks (Bao et al. 2022, section 2.3).
            mask=dict(type='BlockMask', ratio=0.4),
            # The paper does not say it; ours.
            weight=1.0,
        ),
    ),
)
