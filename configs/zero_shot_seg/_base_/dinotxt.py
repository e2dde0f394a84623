# The protocol of dino.txt (Jose et al., CVPR 2025), as DINOv3's notebook has it: shorter side 512, windows of 384 every
# 192 px, ImageNet's 80 templates, and the average over windows of a softmax over the classes. That only the second half
# of a text's embedding is compared belongs to their tower (configs/pretrained/dinov3_text_vitl16.py).
_base_ = './maskclip.py'

test_cfg = dict(
    segmentor=dict(
        templates='imagenet_80',
        window_softmax=1.0,
        test_cfg=dict(mode='slide', crop_size=(384, 384), stride=(192, 192)),
    ),
)
