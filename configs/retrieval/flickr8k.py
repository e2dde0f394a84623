"""Retrieval on Flickr8k, dev split: 1,000 images with 5 captions each, R@1/5/10 both ways.

python tools/test.py configs/retrieval/flickr8k.py CHECKPOINT --model configs/clip/vitt16_flickr8k.py

The same images as in the validation of the Flickr8k configs, for any model. Set MMMASKCLIP_DATA to the folder that
holds flickr8k/ (tar shards of 128 x 128 JPEG).
Measured on 2026-11-22, R@1 I2T / T2I: CLIP 2.0 / 1.3, MaskCLIP v1 2.7 / 1.5. More in docs/results.md.
"""

_base_ = '../_base_/evaluation_runtime.py'

test_dataloader = dict(
    flickr8k=dict(
        batch_size=100,
        num_workers=0,
        **_base_.in_order,
        dataset=dict(
            type='EvaluationShards',
            urls='{{$MMMASKCLIP_DATA:data}}/flickr8k/dev-*.tar',
            caption_key='json:captions',
            transforms=[dict(type='torchvision/Resize', size=224), dict(type='torchvision/CenterCrop', size=224)],
        ),
    )
)
test_evaluator = dict(flickr8k=dict(type='RetrievalRecall', topk=(1, 5, 10), captions_per_image=5, num_images=1000))
