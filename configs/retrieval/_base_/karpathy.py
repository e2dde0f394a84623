# What the retrieval of Karpathy's splits shares. Set MMMASKCLIP_EVAL to the folder that holds the sets.
_base_ = '../../_base_/default_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}'
loader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
)
pairs = dict(
    type='ImageTextPairs',
    split='test',
    test_mode=True,
    views=dict(image=[dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)]),
)
metric = dict(type='RetrievalRecall', topk=(1, 5, 10), captions_per_image=5)
test_cfg = dict(type='EvaluationLoop')
