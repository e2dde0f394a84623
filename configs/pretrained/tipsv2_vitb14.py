"""TIPSv2, ViT-B/14 at 448 px, 32,000 words; Google's file (google/tipsv2-b14), which transformers reads too.

python tools/test.py configs/zero_shot_seg/ade20k_tips.py model.safetensors --model configs/pretrained/tipsv2_vitb14.py

tokenizer.json of the repository, or its tokenizer.model, belongs in data/tokenizers/tipsv2/; --model auto takes the
one beside the weights. Weights CC-BY-4.0.
Published: ADE20K 17.4 mIoU (their README; their own protocol and read-out, value). Here: not run.
"""

model = dict(
    type='ImageTextPretrainer',
    # Pixels from 0 to 1, without normalization.
    data_preprocessor=dict(
        type='ImageTextPreprocessor',
        mean=[0.0] * 3,
        std=[255.0] * 3,
        interpolation='bilinear',
        resize_mode='squash',
    ),
    image_encoder=dict(
        type='TimmTower',
        model_name='vit_base_patch14_reg4_dinov2',
        img_size=448,
        patch_size=14,
        embed_dim=768,
        depth=12,
        num_heads=12,
        mlp_ratio=4.0,
        reg_tokens=1,
        position_interpolation='bilinear',
    ),
    image_projection=dict(type='ImageProjectionHead', pool='cls', in_channels=768, embed_dims=None),
    text_encoder=dict(
        type='CLIPTextTransformer',
        width=768,
        num_layers=12,
        num_heads=12,
        vocab_size=32000,
        context_length=64,
        hidden=3072,
        activation='relu',
        causal=False,
        pool='mean',
        tokenizer=dict(file='data/tokenizers/tipsv2/tokenizer.json', pad_id=0, clean='lower'),
    ),
    text_projection=dict(type='TextProjectionHead', in_channels=768, embed_dims=None),
    objectives=dict(contrast=dict(type='ImageTextContrast')),
)
