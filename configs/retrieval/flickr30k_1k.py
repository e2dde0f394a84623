"""Retrieval on Flickr30K, Karpathy's test split: 1,000 images with 5 captions each, R@1/5/10 both ways.

python tools/test.py configs/retrieval/flickr30k_1k.py CHECKPOINT --model CONFIG

Needs flickr30k/dataset_flickr30k.json (Karpathy and Fei-Fei 2015) and the images in flickr30k/flickr30k-images/ of the
folder MMMASKCLIP_EVAL. Captions as they are, without prompt; images resized to 224 and cropped in the centre, as
tools/test.py sets it to the model's size. Not run.
"""

_base_ = '../_base_/default_runtime.py'

data_root = '{{$MMMASKCLIP_EVAL:data/zero_shot}}/flickr30k'

test_dataloader = dict(
    flickr30k=dict(
        batch_size=256,
        num_workers=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(
            type='ImageTextPairs',
            ann_file=data_root + '/dataset_flickr30k.json',
            data_root=data_root + '/flickr30k-images',
            split='test',
            test_mode=True,
            views=dict(
                image=[dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)]
            ),
        ),
    )
)
test_evaluator = dict(flickr30k=dict(type='RetrievalRecall', topk=(1, 5, 10), captions_per_image=5, num_images=1000))
test_cfg = dict(type='EvaluationLoop')
