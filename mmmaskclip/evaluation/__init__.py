"""Metrics: image-text retrieval, zero-shot classification and segmentation, probes of the frozen image tower."""

from .class_embeddings import encode_classes, encode_texts
from .knn_probe import KNNClassification
from .linear_probe import LinearClassificationProbe
from .linear_segmentation_probe import LinearSegmentationProbe
from .logistic_regression_probe import LogisticRegressionProbe
from .retrieval import RetrievalRecall, retrieval_ranks
from .zero_shot_classification import ZeroShotClassification
from .zero_shot_segmentation import ZeroShotSegmentation, segment

__all__ = [
    'KNNClassification',
    'LinearClassificationProbe',
    'LinearSegmentationProbe',
    'LogisticRegressionProbe',
    'RetrievalRecall',
    'ZeroShotClassification',
    'ZeroShotSegmentation',
    'encode_classes',
    'encode_texts',
    'retrieval_ranks',
    'segment',
]
