# Conceptual Captions (Sharma et al. 2018), 3 million pairs as img2dataset writes them. Put the shards, or a link to
# them, at data/cc3m.
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    prefetch_factor=4,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls='data/cc3m/{00000..00331}.tar',
        caption_key='txt',
        views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.5, 1.0))]),
    ),
)
