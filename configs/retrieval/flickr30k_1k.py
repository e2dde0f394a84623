"""Retrieval on Flickr30K, Karpathy's test split: 1,000 images with 5 captions each, R@1/5/10 both ways.

python tools/test.py configs/retrieval/flickr30k_1k.py CHECKPOINT --model CONFIG

Needs flickr30k/dataset_flickr30k.json (Karpathy and Fei-Fei 2015) and the images in flickr30k/flickr30k-images/ of the
folder MMMASKCLIP_EVAL. Captions as they are, without prompt; images resized to 224 and cropped in the centre, as
tools/test.py sets it to the model's size. Not run.
"""

_base_ = './_base_/karpathy.py'

test_dataloader = dict(
    flickr30k=dict(
        **_base_.loader,
        dataset=dict(
            **_base_.pairs,
            ann_file=_base_.data_root + '/flickr30k/dataset_flickr30k.json',
            data_root=_base_.data_root + '/flickr30k/flickr30k-images',
        ),
    )
)
test_evaluator = dict(flickr30k=dict(**_base_.metric, num_images=1000))
