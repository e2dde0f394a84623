# What the retrieval of Karpathy's splits shares. Set MMMASKCLIP_EVAL to the folder that holds the sets.
_base_ = '../../_base_/evaluation_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}'
loader = dict(batch_size=256, num_workers=4, **_base_.in_order)
pairs = dict(
    type='ImageTextPairs',
    split='test',
    test_mode=True,
    views=dict(image=[dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)]),
)
metric = dict(type='RetrievalRecall', topk=(1, 5, 10), captions_per_image=5)
