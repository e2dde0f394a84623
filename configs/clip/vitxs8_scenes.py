"""CLIP as released ones are, on generated scenes: small patches, global attention, the class token is the image.

python tools/dataset_converters/make_scenes.py data/scenes
python tools/train.py configs/clip/vitxs8_scenes.py

What the quickstart, configs/maskclip/vitxs8_scenes_local_v1.py, is drawn beside. Measured on 2026-11-26, two cores,
seven CPU minutes, one seed, held-out scenes: classification top-1 31.8 %, image to text R@1 14.6 %, text to image R@1
10.8 %, segmentation mIoU 2.8 %.
"""

_base_ = './vitxs16_scenes.py'

model = dict(image_encoder=dict(patch_size=8), image_projection=dict(pool='cls'))
