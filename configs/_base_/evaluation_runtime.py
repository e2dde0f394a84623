# A test without training, on every sample in its order.
_base_ = './default_runtime.py'

in_order = dict(
    sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='mmmaskclip.collate_image_text')
)
test_cfg = dict(type='EvaluationLoop')
