from mmmaskclip.models.losses.codeword import CodewordLoss
from mmmaskclip.models.losses.contrastive import InfoNCELoss, UniCLLoss, positive_targets, similarity_logits
from mmmaskclip.models.losses.feature_regression import FeatureRegressionLoss
from mmmaskclip.models.losses.nt_xent import NTXentLoss
from mmmaskclip.models.losses.pairs import gather_pairs
from mmmaskclip.models.losses.sigmoid import SigmoidLoss

__all__ = [
    'CodewordLoss',
    'FeatureRegressionLoss',
    'InfoNCELoss',
    'NTXentLoss',
    'SigmoidLoss',
    'UniCLLoss',
    'gather_pairs',
    'positive_targets',
    'similarity_logits',
]
