"""Patches pooled by the caption: each caption weighs the patches of an image, and its own image must fit best."""

import math
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Pairs, Views, patch_part
from mmmaskclip.models.losses import positive_targets
from mmmaskclip.models.objectives.base import ComparingObjective
from mmmaskclip.models.objectives.duplicates import check_duplicates, duplicate_labels
from mmmaskclip.registry import MODELS
from mmmaskclip.utils.distributed import gather_rows


@MODELS.register_module()
class TextPooledContrast(ComparingObjective):
    """Contrast every image with all captions of the global batch, the image's patches pooled anew for each caption.

    The similarity of image i with caption j is ``cos(sum_n w_n p_n, t_j)`` with ``w = softmax_n(sharpness <p_n, t_j>)``
    of the projected patches p. These are not normalized, so that a background patch can count little. The contrast is
    InfoNCE's. The idea is that of PACL (Mukhoti et al. 2023, Eq. 2 to 4), SPARC and FLAIR, whose weights differ.

    It is a signal about places beside ``ImageTextContrast``, not in place of it: evaluation compares the global
    embeddings. It costs O(B G N D) per process for B images, G captions of all processes, N patches and D dimensions.

    Args:
        sharpness: Factor of the similarities in the softmax over patches. Defaults to 1.
        reduction: ``'sum'`` gives L_I + L_T, ``'mean'`` their average, as in ``InfoNCELoss``. Defaults to ``'mean'``.
        init_temperature: Initial temperature, learned. Defaults to 0.07.
        max_logit_scale: Upper bound of the inverse temperature. Defaults to 100.
        duplicates: What makes pairs each other's positives, as in ``ImageTextContrast``. Defaults to nothing.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If ``reduction`` is neither, or ``sharpness`` is not positive.
    """

    needs_patches = True

    def __init__(
        self,
        sharpness: float = 1.0,
        reduction: str = 'mean',
        init_temperature: float = 0.07,
        max_logit_scale: float = 100.0,
        duplicates: Sequence[str] = (),
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        if reduction not in ('sum', 'mean'):
            raise ValueError(f"reduction={reduction!r}: choose 'sum' (L_I + L_T) or 'mean' (their average)")
        if sharpness <= 0:
            raise ValueError(f'sharpness={sharpness}: give a positive factor, e.g. 1.0')
        self.sharpness = sharpness
        self.duplicates = check_duplicates(duplicates)
        self.factor = 1.0 if reduction == 'sum' else 0.5
        self.log_scale_bound = math.log(max_logit_scale)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / init_temperature)))

    def embed(self, views: Views) -> dict[str, Tensor]:
        """Projected patches (B, N, D), caption embeddings (B, D), and ``label`` (B, K) where duplicates are known."""
        patches = views.projected_patches()
        rows = {'patches': patches, 'text': patch_part(views.text_embedding(), patches.shape[-1])}
        if labels := duplicate_labels(views, self.duplicates):
            rows['label'] = torch.stack(labels, dim=1)  # (B, K)
        return rows

    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        text = rows['text']
        all_text = gather_rows(text)
        cosines = text_pooled_similarity(rows['patches'], all_text, self.sharpness)  # (B, G)
        logits = self.logit_scale.exp() * cosines
        # The captions' direction needs the rows of all processes: G x G numbers, not their patches.
        all_logits = gather_rows(logits)  # (G, G)
        first = dist.get_rank() * len(text) if dist.is_initialized() else 0
        labels = rows.get('label')
        all_labels = None if labels is None else gather_rows(labels, with_grad=False)
        pairs = Pairs(text, text, all_text, all_text, first, labels, all_labels)
        targets = positive_targets(pairs)
        to_text = F.cross_entropy(logits, targets)
        to_image = F.cross_entropy(all_logits[:, pairs.positions].t(), targets)
        return {'loss': self.factor * (to_text + to_image)}

    @torch.no_grad()
    def after_optimizer_step(self) -> None:
        """Keep the scale in [1, max_logit_scale], as ``ImageTextContrast`` does."""
        self.logit_scale.clamp_(0, self.log_scale_bound)

    def logged(self) -> dict[str, Tensor]:
        return {'local_temperature': (-self.logit_scale.detach()).exp()}


def text_pooled_similarity(patches: Tensor, text: Tensor, sharpness: float) -> Tensor:
    """Cosine of each caption with the patches of each image that it gathers, float32 (B, G) under any autocast.

    Args:
        patches: Projected patches, not normalized, (B, N, D).
        text: Normalized caption embeddings, (G, D).
        sharpness: Factor of the similarities in the softmax over patches.
    """
    with torch.autocast(patches.device.type, enabled=False):
        patches, text = patches.float(), text.float()
        weights = (sharpness * text @ patches.transpose(1, 2)).softmax(dim=-1)  # (B, G, N)
        pooled = F.normalize(weights @ patches, dim=-1)  # (B, G, D)
        return (pooled * text).sum(dim=-1)
