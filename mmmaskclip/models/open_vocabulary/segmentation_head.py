"""A segmentation head that is never trained: its classifier is text."""

from collections.abc import Sequence

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ZeroShotSegHead(BaseDecodeHead):
    """Cosine similarity of every patch embedding with the embeddings of class names.

    Without ``background_threshold`` the logits are the cosines (MaskCLIP v1, section 4; Zhou et al. 2022). With it
    they are a probability per class, ``sigmoid(probability_scale * (cosine - probability_offset))``, and the first
    channel, the background, is the constant threshold: a pixel for which no class is more probable is background.
    That is TCL (Cha et al., CVPR 2023): the background in ``segmentation/evaluation/tcl_seg.py``, and the sigmoid with
    these constants in ``kp_branch`` of ``models/tcl/tcl.py``, the part of its masks that is not trained. TCL's other
    part, ``Sim2Mask``, is a sigmoid with a learned scale and offset, which other models lack.

    Args:
        class_embeds: (K, D), L2-normalized, one per class, without background.
        background_threshold: Probability in (0, 1) that the best class must exceed. None: there is no background.
        probability_scale: Slope of the probabilities; without a threshold it has no effect. Defaults to 10 (TCL).
        probability_offset: The cosine whose probability is 0.5. Defaults to 0.25 (TCL).

    Raises:
        ValueError: If the threshold is not in (0, 1), or there are fewer than two classes.
    """

    def __init__(
        self,
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
        # mmseg's trained classifier; text takes its place.
        del self.conv_seg
        self.background_threshold = background_threshold
        self.probability_scale = probability_scale
        self.probability_offset = probability_offset
        # Not saved: they follow from the text tower and the class names.
        self.register_buffer('class_embeds', class_embeds.float(), persistent=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, K, h, w), or probabilities (B, 1 + K, h, w) with the background first, in float32.

        Args:
            inputs: Patch embeddings (B, D, h, w), L2-normalized, of which the last entry is taken.
        """
        cosines = dense_similarity(inputs[-1], self.class_embeds)  # (B, K, h, w)
        if self.background_threshold is None:
            return cosines
        probabilities = (self.probability_scale * (cosines - self.probability_offset)).sigmoid()
        return F.pad(probabilities, (0, 0, 0, 0, 1, 0), value=self.background_threshold)
