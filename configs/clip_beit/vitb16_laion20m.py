"""CLIP + BEiT: contrast, and prediction of the image codes of hidden patches (MaskCLIP's baseline), ViT-B/16,
LAION-20M, 25 epochs.

tools/dist_train.sh configs/clip_beit/vitb16_laion20m.py 32

Published (arXiv 2208.12262v1, Table 1): ImageNet zero-shot 42.7, linear 69.5, fine-tuned 83.2; Flickr30K I2T/T2I R@1
57.8/43.4; 1.82x the time of CLIP, 24 GB per GPU at 128 images. Here: not run at full scale. Needs the weights of the
DALL-E tokenizer (https://cdn.openai.com/dall-e/encoder.pkl) at data/dalle/encoder.pkl.
"""

_base_ = '../clip/vitb16_laion20m.py'

model = dict(
    objectives=dict(
        tokens=dict(
            type='VisualTokenPrediction',
            tokenizer=dict(type='DALLETokenizer', checkpoint='data/dalle/encoder.pkl'),
            in_channels=768,
            num_codes=8192,
            # 40 %, in blocks (Bao et al. 2022, section 2.3).
            mask=dict(type='BlockMask', ratio=0.4),
            # The paper does not say it; ours.
            weight=1.0,
        ),
    ),
)
