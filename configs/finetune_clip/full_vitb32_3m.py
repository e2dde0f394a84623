"""Fine-tuning CLIP, ViT-B/32, on about 3 million pairs: both towers, layer decay 0.85, larger batches and lr.

python tools/train.py configs/finetune_clip/full_vitb32_3m.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. With so many pairs the towers may move
further. All values are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb32.py', './_base_/pairs.py']

model = dict(objectives=dict(contrast=dict(duplicates=('image', 'caption'))))
train_dataloader = dict(batch_size=1024, num_workers=8)
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(layer_decay_rate=0.85))
train_cfg = dict(max_epochs=5)
