"""A segmentation head that is never trained: its classifier is text."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ZeroShotSegHead(BaseDecodeHead):
    """Cosine similarity of every place's projected features with the embeddings of class names.

    Without ``background_threshold`` the logits are these cosines (MaskCLIP v1, section 4; Zhou et al. 2022). With it
    they are probabilities of each class for itself, ``sigmoid(probability_scale * (cosine - probability_offset))``, and
    the first channel, the background, is the threshold itself: a pixel for which no class is more probable is
    background. That is TCL (Cha et al. 2023): the background in ``segmentation/evaluation/tcl_seg.py``, and the
    sigmoid, with these constants, in ``kp_branch`` of ``models/tcl/tcl.py``, the part of its masks that is not trained.
    Its other part, ``Sim2Mask``, is such a sigmoid with a learned scale and offset, which other models lack.

    Args:
        projection: Layer from tower width C to the shared embedding D, on the last dimension; the pretraining's
            ``image_projection.projection``.
        class_embeds: (K, D), L2-normalized, one per class, without background.
        background_threshold: Probability in (0, 1) that the best class must exceed. None: there is no background.
        probability_scale: How steep the probabilities are; without a threshold it has no effect. Defaults to 10 (TCL).
        probability_offset: The cosine whose probability is 0.5. Defaults to 0.25 (TCL).

    Raises:
        ValueError: If the threshold is not in (0, 1), or there are fewer than two classes.
    """

    def __init__(
        self,
        projection: nn.Module,
        class_embeds: Tensor,
        background_threshold: float | None = None,
        probability_scale: float = 10.0,
        probability_offset: float = 0.25,
    ) -> None:
        if background_threshold is not None and not 0 < background_threshold < 1:
            raise ValueError(
                f'background_threshold={background_threshold}: it is compared with probabilities, choose one between '
                '0 and 1, or None for no background'
            )
        num_classes = len(class_embeds) + (background_threshold is not None)
        if num_classes < 2:
            raise ValueError('segmentation needs at least two classes, with the background; got 1')
        # The scope is needed: under ours mmseg's registry would not find its own loss.
        super().__init__(
            in_channels=class_embeds.shape[1],
            channels=class_embeds.shape[1],
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=0,
            loss_decode=dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
            init_cfg=None,
        )
        # mmseg's trained classifier, in whose place the text is.
        del self.conv_seg
        self.projection = projection
        self.background_threshold = background_threshold
        self.probability_scale = probability_scale
        self.probability_offset = probability_offset
        # Not saved: they follow from the text tower and the class names.
        self.register_buffer('class_embeds', class_embeds.float(), persistent=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w), or probabilities (B, 1 + K, h, w) with the background first, in float32.

        Args:
            inputs: Feature maps (B, C, h, w), of which the last is taken.
        """
        embeds = self.projection(inputs[-1].movedim(1, -1)).float()
        cosines = torch.einsum('bhwd,kd->bkhw', F.normalize(embeds, dim=-1), self.class_embeds)
        if self.background_threshold is None:
            return cosines
        probabilities = (self.probability_scale * (cosines - self.probability_offset)).sigmoid()
        return F.pad(probabilities, (0, 0, 0, 0, 1, 0), value=self.background_threshold)
