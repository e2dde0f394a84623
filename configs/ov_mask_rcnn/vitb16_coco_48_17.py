"""Open-vocabulary Mask R-CNN on COCO: 48 base classes with boxes, 17 novel ones known by name, from a ViT-B/16.

tools/dist_train.sh configs/ov_mask_rcnn/vitb16_coco_48_17.py 8 \
    --cfg-options model.backbone.init_cfg.checkpoint=PATH \
    model.roi_head.bbox_head.cls_predictor_cfg.text.checkpoint=PATH

Boxes are classified by embeddings of the class names from the pretraining's frozen text tower (ViLD-text, Gu et al.,
ICLR 2022): a learned background, regression and masks that are the same for all classes. The split is Bansal et al.'s
(ECCV 2018, mscoco_unseen_classes.json), the protocol OVR-CNN's (Zareian et al., CVPR 2021): AP50 of base, novel and all
classes in competition. In the spirit of SILC's evaluation, which tunes OWL-ViT; the MaskCLIP papers have none, so there
is no published number. Schedule, sizes and batch are those of mask_rcnn/vitb16_coco_1x.py. Here: not run at full scale.
"""

_base_ = [
    '../mask_rcnn/_base_/model.py',
    '../mask_rcnn/_base_/coco.py',
    '../mask_rcnn/_base_/schedule_1x.py',
    '../_base_/detection_runtime.py',
]
custom_imports = dict(
    imports=[
        # First: it provides the operators that the others' mmdet needs.
        'mmmaskclip.models.open_vocabulary.text_classifier',
        'mmmaskclip.models.heads.float32_detection',
        'mmmaskclip.datasets.evaluation.open_vocabulary_coco',
        'mmmaskclip.evaluation.open_vocabulary_coco_metric',
    ]
)

novel = [
    *('airplane', 'bus', 'cat', 'dog', 'cow', 'elephant', 'umbrella', 'tie', 'snowboard', 'skateboard', 'cup'),
    *('knife', 'cake', 'couch', 'keyboard', 'sink', 'scissors'),
]
# Base and novel. Labels follow this order, whatever that of the annotation file is.
classes = [
    *('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train', 'truck', 'boat', 'bench', 'bird', 'cat'),
    *('dog', 'horse', 'sheep', 'cow', 'elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag', 'tie'),
    *('suitcase', 'frisbee', 'skis', 'snowboard', 'kite', 'skateboard', 'surfboard', 'bottle', 'cup', 'fork', 'knife'),
    *('spoon', 'bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot', 'pizza', 'donut', 'cake'),
    *('chair', 'couch', 'bed', 'toilet', 'tv', 'laptop', 'mouse', 'remote', 'keyboard', 'microwave', 'oven'),
    *('toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors', 'toothbrush'),
]

model = dict(
    roi_head=dict(
        bbox_head=dict(
            num_classes=65,
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(
                type='mmmaskclip.TextClassifier',
                classes=classes,
                novel=novel,
                temperature=0.01,
                text=dict(
                    encoder=dict(type='mmmaskclip.CLIPTextTransformer', width=512, num_layers=12, num_heads=8),
                    projection=dict(type='mmmaskclip.TextProjectionHead', in_channels=512, embed_dims=512),
                    checkpoint='work_dirs/maskclip/vitb16_laion20m/iter_122050.pth',
                    templates='imagenet_7',
                ),
            ),
        ),
        mask_head=dict(num_classes=65, class_agnostic=True),
    )
)

train_dataloader = dict(
    dataset=dict(
        type='mmmaskclip.OpenVocabularyCocoDataset',
        novel=novel,
        metainfo=dict(classes=classes),
    )
)
# Evaluated with the boxes of all classes.
val_dataloader = dict(
    dataset=dict(type='mmmaskclip.OpenVocabularyCocoDataset', novel=[], metainfo=dict(classes=classes))
)
test_dataloader = val_dataloader
val_evaluator = dict(type='mmmaskclip.OpenVocabularyCocoMetric', novel=novel)
test_evaluator = val_evaluator

default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1))
