"""Retrieval on MS COCO, Karpathy's 5K test split: 5,000 images, the first 5 captions of each, R@1/5/10 both ways.

python tools/test.py configs/retrieval/coco_5k.py CHECKPOINT --model CONFIG

Needs coco/dataset_coco.json (Karpathy and Fei-Fei 2015) and the images in coco/val2014/ of the folder MMMASKCLIP_EVAL.
The split has about 25,010 captions, because some images have more than five; like the papers, this takes 25,000. Not
run.
"""

_base_ = '../_base_/default_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}/coco'

test_dataloader = dict(
    coco=dict(
        batch_size=256,
        num_workers=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(
            type='ImageTextPairs',
            ann_file=data_root + '/dataset_coco.json',
            split='test',
            test_mode=True,
            views=dict(
                image=[dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)]
            ),
        ),
    )
)
test_evaluator = dict(coco=dict(type='RetrievalRecall', topk=(1, 5, 10), captions_per_image=5, num_images=5000))
test_cfg = dict(type='EvaluationLoop')
