"""Fine-tuning CLIP, ViT-B/32, on about 1,000 pairs: the image tower is locked (LiT, Zhai et al. 2022).

python tools/train.py configs/finetune_clip/lock_image_vitb32_1k.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. A thousand pairs move both towers away
from what they know; here only the text tower and the projections learn. All values are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb32.py', './_base_/pairs.py']

model = dict(
    image_encoder=dict(frozen_stages=12),
    objectives=dict(contrast=dict(duplicates=('image', 'caption'))),
)
train_cfg = dict(max_epochs=20, val_interval=2)
