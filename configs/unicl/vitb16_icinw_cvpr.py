"""UniCL (Yang et al. 2022) with MaskCLIP, ViT-B/16, for the ICinW challenge: pairs mixed with labelled images.

tools/dist_train.sh configs/unicl/vitb16_icinw_cvpr.py 32

YFCC15M, CC3M and CC12M pairs, and ImageNet-21K without ImageNet-1K's classes; 32 epochs, batch 16384 (MaskCLIP
supplement). MaskCLIP's result is not recovered; Swin-B with UniCL on such data: ImageNet zero-shot 52.2, average of the
20 sets 43.2 (UniCL's README). Here: not run at full scale. An epoch is one of YFCC15M; sources are mixed as their sizes
are.
"""

_base_ = '../maskclip/vitb16_yfcc15m_cvpr.py'

views = dict(image=[dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.5, 1.0))])
pairs = dict(type='ImageTextShards', caption_key='txt', views=views)

model = dict(objectives=dict(contrast=dict(loss=dict(_delete_=True, type='UniCLLoss', reduction='sum'))))
train_dataloader = dict(
    # 32 processes x 512 images.
    batch_size=512,
    dataset=dict(
        _delete_=True,
        type='MixedSources',
        sources=dict(
            yfcc15m=dict(
                dataset=dict(
                    type='ImageTextShards',
                    urls='data/yfcc15m/{00000..01499}.tar',
                    caption_key=['json:title', 'json:description'],
                    views=views,
                ),
                per_batch=179,
            ),
            cc3m=dict(dataset=dict(urls='data/cc3m/{00000..00331}.tar', **pairs), per_batch=36),
            cc12m=dict(dataset=dict(urls='data/cc12m/{00000..01242}.tar', **pairs), per_batch=143),
            imagenet21k=dict(
                dataset=dict(
                    type='ClassCaptionShards',
                    urls='data/imagenet21k_minus_1k/{00000..01299}.tar',
                    label_key='cls',
                    classes='data/imagenet21k_minus_1k/classes.txt',
                    # UniCL draws from CLIP's 80; SLIP's 7 are for tests.
                    templates='imagenet_80',
                    views=views,
                ),
                per_batch=154,
            ),
        ),
    ),
)
auto_scale_lr = dict(base_batch_size=16384, enable=False)
train_cfg = dict(max_epochs=32)
custom_hooks = [
    dict(type='ModelStepHook'),
    dict(type='NonFiniteHook'),
    dict(type='BadSamplesHook'),
    dict(type='SourceCountsHook'),
]
