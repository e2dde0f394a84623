"""Fine-tuning CLIP, ViT-B/32, on about 100,000 pairs: both towers, layer decay 0.7.

python tools/train.py configs/finetune_clip/full_vitb32_100k.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. lr 1e-5 is for batches of some hundred
pairs: on a GPU with less memory keep batch_size and set model.micro_batch_size. Batch and length are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb32.py', './_base_/pairs.py']

model = dict(objectives=dict(contrast=dict(duplicates=('image', 'caption'))))
train_dataloader = dict(batch_size=256, num_workers=8)
