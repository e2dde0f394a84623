"""CLIP: pull matching images and captions together, push the others of the batch apart."""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mmmaskclip.models.losses import similarity_logits
from mmmaskclip.models.objectives.base import ComparingObjective
from mmmaskclip.models.objectives.views import Views
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.distributed import gather_rows


@MODELS.register_module()
class ImageTextContrast(ComparingObjective):
    """Contrast every image with all captions of the global batch, and every caption with all images.

    Args:
        loss: Config of the contrastive loss: ``InfoNCELoss``, ``SigmoidLoss`` or ``UniCLLoss``. A loss with
            ``needs_labels`` also gets the labels of the batch. Defaults to ``InfoNCELoss``.
        gather_with_grad: Let gradients flow through the embeddings of other processes, which makes several processes
            equal one with the whole batch. False is SLIP's habit. Defaults to True.
        init_temperature: Initial temperature, learned. Defaults to 0.07.
        max_logit_scale: Upper bound of the inverse temperature. Defaults to 100.
        images: The image views to contrast, each with all captions; the loss is their mean. Defaults to ``image``
            alone; SILC contrasts every global crop.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If the loss cannot do without ``gather_with_grad``.
    """

    def __init__(
        self,
        loss: dict | None = None,
        gather_with_grad: bool = True,
        init_temperature: float = 0.07,
        max_logit_scale: float = 100.0,
        images: Sequence[str] = ('image',),
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        self.loss = MODELS.build(loss or dict(type='InfoNCELoss'))
        if getattr(self.loss, 'needs_gather_grad', False) and not gather_with_grad:
            raise ValueError(
                f'gather_with_grad=False: {type(self.loss).__name__} sees captions only through the gather, so that '
                'the text tower would not learn; set it to True'
            )
        self.images = tuple(images)
        self.gather_with_grad = gather_with_grad
        self.log_scale_bound = math.log(max_logit_scale)
        # The logarithm is learned, as in CLIP: the scale stays positive and its step is relative.
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))

    def embed(self, views: Views) -> dict[str, Tensor]:
        """``text`` and the image views by name, (B, D) each, and ``label`` (B,) if the loss needs it."""
        views.encode_together(self.images)
        rows = {f'image:{image}': views.image_embedding(image) for image in self.images}
        rows['text'] = views.text_embedding()
        if getattr(self.loss, 'needs_labels', False):
            rows['label'] = views.labels()
        return rows

    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        images, text = [rows[f'image:{image}'] for image in self.images], rows['text']
        # Both towers in one collective.
        gathered = gather_rows(torch.cat((*images, text), dim=1), self.gather_with_grad)
        *all_images, all_text = gathered.split(text.shape[1], dim=1)
        first_row = dist.get_rank() * len(text) if dist.is_initialized() else 0
        labels = (rows['label'], gather_rows(rows['label'], with_grad=False)) if 'label' in rows else ()
        losses = [
            self.loss(image, text, all_image, all_text, self.logit_scale.exp(), first_row, *labels)
            for image, all_image in zip(images, all_images, strict=True)
        ]
        return {'loss': self.weight(self.progress) * torch.stack(losses).mean()}

    def logits(self, image: Tensor, text: Tensor) -> Tensor:
        """Similarities over temperature (R, K), float32, of normalized embeddings (R, D) and (K, D)."""
        return similarity_logits(image, text, self.logit_scale.exp())

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the scale in [1, max_logit_scale] (Radford et al. 2021, section 2.5; lower bound as in SLIP)."""
        self.logit_scale.clamp_(0, self.log_scale_bound)

    def logged(self) -> dict[str, Tensor]:
        return {'temperature': (-self.logit_scale.detach()).exp()}
