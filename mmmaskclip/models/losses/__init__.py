from .codeword import CodewordLoss, codeword_cross_entropy
from .contrastive import InfoNCELoss, info_nce, similarity_logits
from .feature_regression import FeatureRegressionLoss, feature_regression
from .nt_xent import NTXentLoss, nt_xent
from .sigmoid import SigmoidLoss, sigmoid_contrast
from .unicl import UniCLLoss, unicl

__all__ = [
    'CodewordLoss',
    'FeatureRegressionLoss',
    'InfoNCELoss',
    'NTXentLoss',
    'SigmoidLoss',
    'UniCLLoss',
    'codeword_cross_entropy',
    'feature_regression',
    'info_nce',
    'nt_xent',
    'sigmoid_contrast',
    'similarity_logits',
    'unicl',
]
