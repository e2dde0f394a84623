from .codeword import CodewordLoss, codeword_cross_entropy
from .contrastive import InfoNCELoss, info_nce, similarity_logits
from .feature_regression import FeatureRegressionLoss, feature_regression

__all__ = [
    'CodewordLoss',
    'FeatureRegressionLoss',
    'InfoNCELoss',
    'codeword_cross_entropy',
    'feature_regression',
    'info_nce',
    'similarity_logits',
]
