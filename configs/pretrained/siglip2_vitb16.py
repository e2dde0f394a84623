"""SigLIP 2, ViT-B/16 at 224 px, Gemma's 256,000 words; OpenCLIP's file (timm/ViT-B-16-SigLIP2).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/siglip2_vitb16.py

The tokenizer.json of the repository (timm/ViT-B-16-SigLIP2, or google/siglip2-base-patch16-224) belongs
in data/tokenizers/siglip2/; --model auto takes the one beside the weights. Here: not run.
"""

_base_ = 'siglip_vitb16.py'

model = dict(
    text_encoder=dict(
        vocab_size=256000,
        activation='gelu_tanh',
        tokenizer=dict(file='data/tokenizers/siglip2/tokenizer.json', pad_id=0),
    ),
)
