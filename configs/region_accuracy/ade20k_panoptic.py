"""Region and pointing accuracy on ADE20K's validation images: boxes, things and stuff, 150 classes.

python tools/test.py configs/region_accuracy/ade20k_panoptic.py CHECKPOINT --model CONFIG \
    --cfg-options test_evaluator.regions.read_out=naclip

As coco_panoptic.py. The masks are those that detectron2's prepare_ade20k_pan_seg.py writes beside
data/ade/ADEChallengeData2016/images.
Published: EVA-CLIP's B/16 33.0 top-1 in boxes; CLIPSelf 48.1 (DenseVLM, table 1). Not run.
"""

_base_ = './coco_panoptic.py'

ade = 'data/ade/ADEChallengeData2016'
test_dataloader = dict(
    regions=dict(
        dataset=dict(
            ann_file=ade + '/ade20k_panoptic_val.json',
            mask_folder=ade + '/ade20k_panoptic_val',
            image_folder=ade + '/images/validation',
            num_samples=2000,
        )
    )
)
