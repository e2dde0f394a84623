# The protocol of TCL (Cha et al. 2023), which SILC and TIPS use: shorter side 448, windows of 448 every 224 px, TCL's
# nine templates, and mmseg's own class names. Positions are interpolated where the model was trained at another size.
_base_ = './maskclip.py'

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 448), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(segmentation=dict(dataset=dict(pipeline=pipeline)))
test_cfg = dict(
    segmentor=dict(templates='tcl', test_cfg=dict(mode='slide', crop_size=(448, 448), stride=(224, 224))),
)
