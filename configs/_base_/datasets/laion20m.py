# 20 million pairs drawn at random from LAION-400M (MaskCLIP v1, section 4.1), as img2dataset writes them: 2000 shards
# of 10,000. Put them, or a link to them, at data/laion20m.
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    prefetch_factor=4,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls='data/laion20m/{00000..01999}.tar',
        caption_key='txt',
        # No flip, as in SLIP.
        views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.5, 1.0))]),
    ),
)
