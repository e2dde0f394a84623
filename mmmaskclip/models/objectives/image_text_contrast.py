"""CLIP: pull matching images and captions together, push the others of the batch apart."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmmaskclip.contracts import ContrastiveLoss, Views
from mmmaskclip.models.losses import SigmoidLoss, gather_pairs, similarity_logits
from mmmaskclip.models.objectives.base import ComparingObjective
from mmmaskclip.models.objectives.duplicates import check_duplicates, duplicate_labels
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ImageTextContrast(ComparingObjective):
    """Contrast every image with all captions of the global batch, and every caption with all images.

    Args:
        loss: Config of the contrastive loss: ``InfoNCELoss``, ``SigmoidLoss``, ``UniCLLoss`` or another
            :class:`~mmmaskclip.contracts.ContrastiveLoss`. Defaults to ``InfoNCELoss``.
        gather_with_grad: Let gradients flow through the embeddings of other processes, which makes several processes
            equal one with the whole batch. False is SLIP's habit. Defaults to True.
        init_temperature: Initial temperature, learned. Defaults to 0.07.
        max_logit_scale: Upper bound of the inverse temperature. Defaults to 100.
        duplicates: What makes pairs of the global batch each other's positives, which else count as negatives:
            ``'image'``, the same file, for which the training dataset says ``identify_images=True``; ``'caption'``, the
            same words. Targets are UniCL's. Defaults to neither.
        views: The image views to contrast, each with all captions; the loss is their mean. Defaults to ``image``
            alone; SILC contrasts every global crop.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If the loss cannot do without ``gather_with_grad``, or ``duplicates`` names something else.
    """

    def __init__(
        self,
        loss: dict | None = None,
        gather_with_grad: bool = True,
        init_temperature: float = 0.07,
        max_logit_scale: float = 100.0,
        duplicates: Sequence[str] = (),
        views: Sequence[str] = ('image',),
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        self.loss: ContrastiveLoss = MODELS.build(loss or dict(type='InfoNCELoss'))
        if self.loss.needs_gather_grad and not gather_with_grad:
            raise ValueError(
                f'gather_with_grad=False: {type(self.loss).__name__} sees captions only through the gather, so that '
                'the text tower would not learn; set it to True'
            )
        self.duplicates = check_duplicates(duplicates)
        self.views = tuple(views)
        self.gather_with_grad = gather_with_grad
        self.log_scale_bound = math.log(max_logit_scale)
        # The logarithm is learned, as in CLIP: the scale stays positive and its step is relative.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))

    def embed(self, views: Views) -> dict[str, Tensor]:
        """``text`` and the image views by name, (B, D) each, and ``label`` (B, K) if the loss needs classes."""
        views.encode_together(self.views)
        rows = {f'image:{view}': views.image_embedding(view) for view in self.views}
        rows['text'] = views.text_embedding()
        labels = [views.labels()] if self.loss.needs_labels else []
        if labels := labels + duplicate_labels(views, self.duplicates):
            rows['label'] = torch.stack(labels, dim=1)  # (B, K)
        return rows

    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        images = [rows[f'image:{view}'] for view in self.views]
        pairs_by_view = gather_pairs(images, rows['text'], self.gather_with_grad, rows.get('label'))
        return {'loss': torch.stack([self.loss(pairs, self.logit_scale.exp()) for pairs in pairs_by_view]).mean()}

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Similarities over temperature (R, K), float32, of normalized embeddings (R, D) and (K, D).

        With the bias of a sigmoid loss, so that their sigmoid is the probability of a match.
        """
        bias = self.loss.bias.float() if isinstance(self.loss, SigmoidLoss) else 0.0
        return similarity_logits(image, text, self.logit_scale.exp()) + bias

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the scale in [1, max_logit_scale] (Radford et al. 2021, section 2.5; lower bound as in SLIP)."""
        self.logit_scale.clamp_(0, self.log_scale_bound)

    def logged(self) -> dict[str, Tensor]:
        return {'temperature': (-self.logit_scale.detach()).exp()}


@MODELS.register_module()
class FixedTemperature(ImageTextContrast):
    """Keep a model's temperature, for evaluation and export, where no captions are trained on. It has no loss."""

    def __init__(self) -> None:
        super().__init__()
        self.requires_grad_(False)

    def embed(self, views: Views) -> dict[str, Tensor]:
        return {}

    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        return {}
