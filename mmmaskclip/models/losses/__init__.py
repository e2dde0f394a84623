from mmmaskclip.models.losses.codeword import CodewordLoss, codeword_cross_entropy
from mmmaskclip.models.losses.contrastive import InfoNCELoss, info_nce, similarity_logits
from mmmaskclip.models.losses.feature_regression import FeatureRegressionLoss, feature_regression
from mmmaskclip.models.losses.nt_xent import NTXentLoss, nt_xent
from mmmaskclip.models.losses.sigmoid import SigmoidLoss, sigmoid_contrast
from mmmaskclip.models.losses.unicl import UniCLLoss, unicl

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
