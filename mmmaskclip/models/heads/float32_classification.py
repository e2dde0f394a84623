"""mmpretrain's linear classifier with logits in float32."""

import torch
from mmpretrain.models.heads import LinearClsHead
from torch import Tensor

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class Float32LinearClsHead(LinearClsHead):
    """mmpretrain's ``LinearClsHead`` whose logits are float32 under autocast.

    Under ``--amp`` mmpretrain's head gives bfloat16 logits. Two classes whose logits differ by less than 1/256 become
    equal, and chance decides between them.
    """

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Logits (B, K) of the last of the features, each (B, C)."""
        with torch.autocast(feats[-1].device.type, enabled=False):
            return super().forward(tuple(feat.float() for feat in feats))
