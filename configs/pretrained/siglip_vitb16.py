"""SigLIP, ViT-B/16 at 224 px, 32,000 words of English; OpenCLIP's file (timm/ViT-B-16-SigLIP).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/siglip_vitb16.py

The tokenizer.json of the repository (timm/ViT-B-16-SigLIP, or google/siglip-base-patch16-224) belongs
in data/tokenizers/siglip/; --model auto takes the one beside the weights. Here: not run.
"""

model = dict(
    type='ImageTextPretrainer',
    data_preprocessor=dict(
        type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, interpolation='bicubic', resize_mode='squash'
    ),
    image_encoder=dict(type='TimmTower', model_name='vit_base_patch16_siglip_224', img_size=224),
    image_projection=dict(
        type='AttentionPoolProjectionHead', in_channels=768, embed_dims=None, num_heads=12, activation='gelu'
    ),
    text_encoder=dict(
        type='CLIPTextTransformer',
        width=768,
        num_layers=12,
        num_heads=12,
        vocab_size=32000,
        context_length=64,
        eps=1e-6,
        causal=False,
        pool='last',
        tokenizer=dict(file='data/tokenizers/siglip/tokenizer.json', pad_id=1, clean='canonicalize'),
    ),
    text_projection=dict(type='TextProjectionHead', in_channels=768, embed_dims=768, bias=True),
    objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='SigmoidLoss'))),
)
