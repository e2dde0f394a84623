# Flickr8k (Hodosh et al. 2013) as tar shards of 128 x 128 JPEG with five captions each: 6,091 images to train on, 1,000
# dev images with 5,000 captions to evaluate on. Set MMMASKCLIP_DATA to the folder that holds flickr8k/.
data_root = '{{$MMMASKCLIP_DATA:data}}/flickr8k'

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls=data_root + '/train-*.tar',
        caption_key='json:captions',
        views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=112, scale=(0.5, 1.0))]),
    ),
)

val_dataloader = dict(
    retrieval=dict(
        batch_size=100,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(
            type='EvaluationShards',
            urls=data_root + '/dev-*.tar',
            caption_key='json:captions',
            transforms=[dict(type='torchvision/Resize', size=112), dict(type='torchvision/CenterCrop', size=112)],
        ),
    )
)
val_evaluator = dict(retrieval=dict(type='RetrievalRecall', topk=(1, 5, 10)))
val_cfg = dict(type='EvaluationLoop')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = val_cfg
