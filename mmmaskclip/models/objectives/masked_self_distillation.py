"""MaskCLIP: predict, from the visible patches, what a teacher sees in the whole image."""

from functools import partial

import torch
from torch import Tensor, nn

from mmmaskclip.models.backbones import ImageFeatures, gather_tokens
from mmmaskclip.models.noise import IMAGE_MASK_STREAM
from mmmaskclip.models.teacher import MomentumCopy
from mmmaskclip.models.views import Views
from mmmaskclip.registry import MODELS

from .base import Objective


@MODELS.register_module()
class MaskedSelfDistillation(Objective):
    """Masked self-distillation (MaskCLIP section 3.2, Eq. 4 to 6).

    The student encodes the visible patches only, a small decoder predicts the features of all patches, and the loss
    compares the hidden ones with the teacher's features of the full image.

    The two published forms: ``head=None`` with ``FeatureRegressionLoss`` regresses raw features (arXiv v1);
    ``PrototypeHead`` with ``CodewordLoss`` matches soft codewords (CVPR).

    Args:
        decoder: Config of the neck that predicts all patches.
        loss: Config of the loss between prediction and target.
        head: Config of the head on both; the target's is an EMA copy of it. Defaults to None.
        mask: Config of the mask generator. Defaults to ``RandomMask`` of 75 %.
        target: ``'ema'``, the EMA teacher of the image tower; ``'shared'``, the student's own features of the full
            image, detached, which the contrastive loss has paid for. Defaults to ``'ema'``.
        loss_on: ``'masked'`` patches, as the papers; or ``'all'`` of them. Defaults to ``'masked'``.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If ``target`` or ``loss_on`` is unknown; in the first step, if the decoder is made for another
            number of patches than the images have.
    """

    def __init__(
        self,
        decoder: dict,
        loss: dict,
        head: dict | None = None,
        mask: dict | None = None,
        target: str = 'ema',
        loss_on: str = 'masked',
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        if target not in ('ema', 'shared'):
            raise ValueError(f"target={target!r}: choose 'ema' (teacher) or 'shared' (the student's full-image pass)")
        if loss_on not in ('masked', 'all'):
            raise ValueError(f"loss_on={loss_on!r}: choose 'masked' or 'all'")
        self.needs_teacher = target == 'ema'
        self.loss_on = loss_on
        self.mask = MODELS.build(mask or dict(type='RandomMask'))
        self.decoder = MODELS.build(decoder)
        self.head = nn.Identity() if head is None else MODELS.build(head)
        self.target_head = nn.Identity() if head is None else MomentumCopy(self.head)
        self.loss = MODELS.build(loss)

    def forward(self, views: Views) -> dict[str, Tensor]:
        num_patches = views.patch_tokens().shape[1]
        if num_patches != self.decoder.num_patches:
            raise ValueError(
                f'images have {num_patches} patches, but decoder.num_patches={self.decoder.num_patches}: set it to '
                '(image size / patch size) squared'
            )
        mask = self.mask(partial(views.noise, stream=IMAGE_MASK_STREAM), views.grid())
        predicted = self.decoder(views.visible_features(mask.visible), mask.visible)
        target = self._target(views).patches
        if self.loss_on == 'masked':
            # Before the heads, so that they are computed only where the loss looks.
            predicted, target = gather_tokens(predicted, mask.masked), gather_tokens(target, mask.masked)
        with torch.no_grad():
            target = self.target_head(target)
        loss = self.loss(self.head(predicted), target, self.progress)
        return {'loss': self.weight(self.progress) * loss}

    def _target(self, views: Views) -> ImageFeatures:
        return views.teacher_features() if self.needs_teacher else views.image_features().detach()

    def after_optimizer_step(self) -> None:
        self.loss.after_optimizer_step()
