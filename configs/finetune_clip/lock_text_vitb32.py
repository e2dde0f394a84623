"""Fine-tuning CLIP, ViT-B/32, with a locked text tower: another kind of images, the same words.

python tools/train.py configs/finetune_clip/lock_text_vitb32.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. Class names and prompts keep their
meaning, and the image tower moves towards them. All values are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb32.py', './_base_/pairs.py']

model = dict(
    text_encoder=dict(frozen=True),
    objectives=dict(contrast=dict(duplicates=('image', 'caption'))),
)
train_dataloader = dict(batch_size=256, num_workers=8)
