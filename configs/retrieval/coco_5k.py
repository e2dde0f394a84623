"""Retrieval on MS COCO, Karpathy's 5K test split: 5,000 images, the first 5 captions of each, R@1/5/10 both ways.

python tools/test.py configs/retrieval/coco_5k.py CHECKPOINT --model CONFIG

Needs coco/dataset_coco.json (Karpathy and Fei-Fei 2015) and the images in coco/val2014/ of the folder MMMASKCLIP_EVAL.
The split has about 25,010 captions, because some images have more than five; like the papers, this takes 25,000. Not
run.
"""

_base_ = './_base_/karpathy.py'

test_dataloader = dict(
    coco=dict(**_base_.loader, dataset=dict(**_base_.pairs, ann_file=_base_.data_root + '/coco/dataset_coco.json'))
)
test_evaluator = dict(coco=dict(**_base_.metric, num_images=5000))
