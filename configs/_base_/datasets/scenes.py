# Captioned scenes, 64 x 64: python tools/dataset_converters/make_scenes.py data/scenes
# 'val' has scenes of several objects with five captions and a mask, 'single' one object and its class. Set
# MMMASKCLIP_SCENES to the folder that holds shards/.
data_root = '{{$MMMASKCLIP_SCENES:data/scenes}}/shards'

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
    dataset=dict(
        type='ImageTextShards',
        urls=data_root + '/train-*.tar',
        caption_key='json:captions',
        # Square, because a squashed circle is another shape; not mirrored, because captions say left and right; and
        # larger than usual, because an object that is cut off is still in the caption.
        views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=64, scale=(0.8, 1.0), ratio=(1.0, 1.0))]),
    ),
)

loader = dict(
    batch_size=72,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
)
held_out = dict(type='EvaluationShards', transforms=[dict(type='torchvision/Resize', size=64)])
val_dataloader = dict(
    several=dict(
        **loader,
        dataset=dict(**held_out, urls=data_root + '/val-*.tar', caption_key='json:captions', mask_key='mask.png'),
    ),
    single=dict(**loader, dataset=dict(**held_out, urls=data_root + '/single-*.tar', label_key='cls')),
)
val_evaluator = dict(
    several=[
        dict(type='RetrievalRecall', topk=(1, 5, 10), prefix='retrieval'),
        dict(type='ZeroShotSegmentation', classes='scenes', prefix='segmentation'),
    ],
    single=dict(type='ZeroShotClassification', classes='scenes', prefix='classification'),
)
val_cfg = dict(type='EvaluationLoop')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
test_cfg = val_cfg
