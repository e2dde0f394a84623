"""DINOv3's text-aligned ViT-L/16 (dino.txt) at 512 px; Meta's two files, of the backbone, and of vision head and text.

python tools/test.py configs/zero_shot_seg/ade20k_dinotxt.py \
    dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth --model configs/pretrained/dinov3_text_vitl16.py

dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth is to lie in the same folder. Weights under the DINOv3 License.
Published: ADE20K 24.7, Cityscapes 36.9 mIoU (DINOv3's paper, table 16, as quoted in dinov3 issue 64). Here: not run.
"""

model = dict(
    type='ImageTextPretrainer',
    data_preprocessor=dict(
        type='ImageTextPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        interpolation='bicubic',
    ),
    image_encoder=dict(
        type='DinoTextTower',
        model_name='vit_large_patch16_dinov3_qkvb',
        img_size=512,
        embed_dim=1024,
        depth=24,
        num_heads=16,
    ),
    image_projection=dict(type='ClassAndPatchesProjectionHead', in_channels=1024),
    text_encoder=dict(type='CLIPTextTransformer', width=1280, num_layers=24, num_heads=20),
    text_projection=dict(type='TextProjectionHead', in_channels=1280, embed_dims=2048),
    objectives=dict(contrast=dict(type='ImageTextContrast')),
)
