"""Metrics: image-text retrieval, zero-shot classification and zero-shot segmentation."""

from .class_embeddings import encode_classes, encode_texts
from .retrieval import RetrievalRecall, retrieval_ranks
from .zero_shot_classification import ZeroShotClassification
from .zero_shot_segmentation import ZeroShotSegmentation, segment

__all__ = [
    'RetrievalRecall',
    'ZeroShotClassification',
    'ZeroShotSegmentation',
    'encode_classes',
    'encode_texts',
    'retrieval_ranks',
    'segment',
]
