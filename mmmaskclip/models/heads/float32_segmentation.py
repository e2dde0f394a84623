"""UperNet's heads with logits in float32. Not imported with ``mmmaskclip.models``: mmseg takes seconds.

Under ``--amp`` mmseg classifies, upsamples and compares in bfloat16, which has 8 significant bits. Of two classes that
agree in these, the first one wins. Here the last convolution is float32, and so is all that follows.
"""

import torch
from mmseg.models.decode_heads import FCNHead, UPerHead
from torch import Tensor

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class Float32UPerHead(UPerHead):
    """mmseg's ``UPerHead`` whose logits are float32 under autocast."""

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Logits (B, K, h, w) of features (B, C, h, w)."""
        with torch.autocast(feat.device.type, enabled=False):
            return super().cls_seg(feat.float())


@MODELS.register_module()
class Float32FCNHead(FCNHead):
    """mmseg's ``FCNHead`` whose logits are float32 under autocast."""

    def cls_seg(self, feat: Tensor) -> Tensor:
        """Logits (B, K, h, w) of features (B, C, h, w)."""
        with torch.autocast(feat.device.type, enabled=False):
            return super().cls_seg(feat.float())
