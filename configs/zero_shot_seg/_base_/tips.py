# The protocol of TIPS (Maninis et al. 2024) and TIPSv2: shorter side 448, windows of 448 every 336 px, TCL's nine
# templates, the last block's values (their notebook).
_base_ = './maskclip.py'

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 448), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(segmentation=dict(dataset=dict(pipeline=pipeline)))
test_cfg = dict(
    segmentor=dict(templates='tcl', read_out='value', test_cfg=dict(crop_size=(448, 448), stride=(336, 336))),
)
