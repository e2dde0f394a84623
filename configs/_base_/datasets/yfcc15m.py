# YFCC15M, OpenAI's English subset of YFCC100M as SLIP lists it (not DeCLIP's list), as img2dataset writes it. Each
# visit takes the title or the description at random, as SLIP does. Put the shards, or a link to them, at data/yfcc15m.
train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    prefetch_factor=4,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls='data/yfcc15m/{00000..01499}.tar',
        caption_key=['json:title', 'json:description'],
        views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=224, scale=(0.5, 1.0))]),
    ),
)
