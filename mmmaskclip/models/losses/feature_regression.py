"""Regression of features."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class FeatureRegressionLoss(nn.Module):
    """Smooth-L1 on teacher features: MaskCLIP v1 (arXiv 2208.12262v1, Eq. 6), in float32.

    Args:
        beta: Knee of Smooth-L1 between its quadratic and its linear part. Defaults to 2, the paper's value.
        target_norm: ``'none'``, the paper's equation; or ``'ln'``, a non-affine LayerNorm of prediction and target, as
            in the first author's BootMAE. Defaults to ``'none'``.

    Raises:
        ValueError: If ``target_norm`` is neither.
    """

    def __init__(self, beta: float = 2.0, target_norm: str = 'none'):
        super().__init__()
        if target_norm not in ('none', 'ln'):
            raise ValueError(f"target_norm={target_norm!r}: choose 'none' or 'ln'")
        self.beta = beta
        self.target_norm = target_norm

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of features (B, M, C) against targets of the same shape, the mean over everything."""
        prediction, target = prediction.float(), target.float()
        if self.target_norm == 'ln':
            prediction, target = (F.layer_norm(x, x.shape[-1:], eps=1e-6) for x in (prediction, target))
        return F.smooth_l1_loss(prediction, target, beta=self.beta)
