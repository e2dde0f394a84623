"""Images with captions, labels or masks for evaluation. Every sample counts: a damaged one is an error, not a skip."""

from mmmaskclip.datasets.evaluation.coco_regions import CocoRegions
from mmmaskclip.datasets.evaluation.evaluation_shards import EvaluationShards
from mmmaskclip.datasets.evaluation.labelled_images import LabelledImages
from mmmaskclip.datasets.evaluation.panoptic_regions import PanopticRegions
from mmmaskclip.datasets.evaluation.segmentation_images import SegmentationImages

__all__ = ['CocoRegions', 'EvaluationShards', 'LabelledImages', 'PanopticRegions', 'SegmentationImages']
