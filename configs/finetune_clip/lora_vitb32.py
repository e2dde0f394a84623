"""Fine-tuning CLIP, ViT-B/32, by low-rank adapters of both towers (LoRA, Hu et al. 2022).

python tools/train.py configs/finetune_clip/lora_vitb32.py --cfg-options load_from=WEIGHTS
python tools/model_converters/merge_lora.py work_dirs/finetune_clip/lora_vitb32/epoch_10.pth merged.pth

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. lr 2e-4 is that of CLIP-LoRA (Zanella and
Ben Ayed 2024) as we recall it; rank, batch and length are ours. Not run.
"""

_base_ = ['../pretrained/openclip_vitb32.py', './_base_/pairs.py']

model = dict(
    lora=dict(image_encoder=dict(rank=8), text_encoder=dict(rank=8)),
    objectives=dict(contrast=dict(duplicates=('image', 'caption'))),
)
train_dataloader = dict(batch_size=256, num_workers=8)
# Adapters start at zero in every layer alike.
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
