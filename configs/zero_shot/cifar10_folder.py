"""Zero-shot on 5,000 of CIFAR-10's test images as JPEG files, one folder per class: SLIP's prompts, top-1.

tar xf test.tar -C data/zero_shot/cifar10_folder
python tools/test.py configs/zero_shot/cifar10_folder.py CHECKPOINT --model CONFIG

For quick comparisons; not comparable with published results. Measured on 2026-11-22 with the ViT-Ti/16 of Flickr8k:
CLIP 16.5 %, MaskCLIP v1 18.9 %; more in docs/results.md.
"""

_base_ = './cifar10.py'

test_dataloader = dict(
    cifar10=dict(
        dataset=dict(
            source=dict(_delete_=True, type='torchvision/ImageFolder', root=_base_.data_root + '/cifar10_folder/test'),
            folder=_base_.data_root + '/cifar10_folder/test',
            shards=None,
            num_samples=5000,
            get='One folder per class, 500 images in each.',
        )
    )
)
