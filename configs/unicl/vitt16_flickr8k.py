"""UniCL (Yang et al. 2022): Flickr8k's pairs mixed with CIFAR-10's labelled images, ViT-Ti/16 at 112 px.

python tools/dataset_converters/make_label_shards.py cifar10/train data/cifar10_shards
python tools/train.py configs/unicl/vitt16_flickr8k.py

cifar10/train is the unpacked image folder, one folder per class. Not run.
"""

_base_ = '../clip/vitt16_flickr8k.py'

views = dict(image=[dict(type='torchvision/RandomResizedCrop', size=112, scale=(0.5, 1.0))])

model = dict(objectives=dict(contrast=dict(loss=dict(_delete_=True, type='UniCLLoss', reduction='mean'))))
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        type='MixedSources',
        sources=dict(
            flickr8k=dict(
                dataset=dict(
                    type='ImageTextShards',
                    urls='{{$MMMASKCLIP_DATA:data}}/flickr8k/train-*.tar',
                    caption_key='json:captions',
                    views=views,
                ),
                per_batch=48,
            ),
            cifar10=dict(
                dataset=dict(
                    type='ClassCaptionShards',
                    urls='data/cifar10_shards/*.tar',
                    classes='data/cifar10_shards/classes.txt',
                    # UniCL draws from CLIP's 80; SLIP's 7 are for tests.
                    templates='imagenet_80',
                    views=views,
                ),
                per_batch=16,
            ),
        ),
    ),
)
custom_hooks = [
    dict(type='ModelStepHook'),
    dict(type='NonFiniteHook'),
    dict(type='BadSamplesHook'),
    dict(type='SourceCountsHook'),
]
