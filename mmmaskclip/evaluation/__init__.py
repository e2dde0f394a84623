"""Metrics: image-text retrieval, zero-shot classification and segmentation, probes of the frozen image tower."""

from mmmaskclip.evaluation.knn_probe import KNNClassification
from mmmaskclip.evaluation.linear_probe import LinearClassificationProbe
from mmmaskclip.evaluation.linear_segmentation_probe import LinearSegmentationProbe
from mmmaskclip.evaluation.logistic_regression_probe import LogisticRegressionProbe
from mmmaskclip.evaluation.region_accuracy import RegionAccuracy
from mmmaskclip.evaluation.retrieval import RetrievalRecall, retrieval_ranks
from mmmaskclip.evaluation.zero_shot_classification import ZeroShotClassification
from mmmaskclip.evaluation.zero_shot_segmentation import ZeroShotSegmentation

__all__ = [
    'KNNClassification',
    'LinearClassificationProbe',
    'LinearSegmentationProbe',
    'LogisticRegressionProbe',
    'RegionAccuracy',
    'RetrievalRecall',
    'ZeroShotClassification',
    'ZeroShotSegmentation',
    'retrieval_ranks',
]
