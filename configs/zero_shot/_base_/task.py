# What the zero-shot configs share. Set MMMASKCLIP_EVAL to the folder that holds the sets.
_base_ = '../../_base_/default_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}'

loader = dict(
    batch_size=256,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmmaskclip.collate_image_text'),
)
# SLIP's eval_zeroshot.py: bilinear, 224 px; tools/test.py sets the size to the model's.
transforms = [dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)]
# ELEVATER's feature.py.
bicubic = [
    dict(type='torchvision/Resize', size=224, interpolation='bicubic'),
    dict(type='torchvision/CenterCrop', size=224),
]
images = dict(type='LabelledImages', transforms=transforms)

test_cfg = dict(type='EvaluationLoop')
