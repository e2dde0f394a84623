# The protocol of SCLIP (Wang et al., ECCV 2024), which ClearCLIP, NACLIP, ResCLIP and SC-CLIP share: shorter
# side 336 (COCO-Stuff 448, Cityscapes 560), windows of 224 every 112 px, ImageNet's 80 templates, every synonym a query
# of its own, and for sets with a background a threshold for the softmax over all words. Names and synonyms are ours
# (mmseg's, written as words): SCLIP's lists are not part of this, and move its numbers; classes=FILE takes others.
_base_ = './maskclip.py'

pipeline = [
    dict(type='mmseg.LoadImageFromFile'),
    dict(type='mmseg.Resize', scale=(2048, 336), keep_ratio=True),
    dict(type='mmseg.LoadAnnotations'),
    dict(type='mmseg.PackSegInputs'),
]
test_dataloader = dict(segmentation=dict(dataset=dict(pipeline=pipeline)))
test_cfg = dict(segmentor=dict(templates='imagenet_80', queries=dict(scale=40)))
