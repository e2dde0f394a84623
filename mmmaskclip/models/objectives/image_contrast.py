"""SLIP's second signal: recognise an image in another augmentation of it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mmmaskclip.contracts import Views, check_pool
from mmmaskclip.models.losses import gather_pairs
from mmmaskclip.models.objectives.base import ComparingObjective
from mmmaskclip.registry import MODELS


@MODELS.register_module()
class ImageContrast(ComparingObjective):
    """SimCLR between two augmented views of each image, through the image tower (Mu et al. 2022, SLIP, section 3).

    Both views go through the tower in one pass, and through the head in one pass, so that its batch norm sees both,
    as in SimCLR and mmpretrain (SLIP's code calls the head once per view). The views are other crops than the one
    that is contrasted with the text, hence SLIP's cost.

    Args:
        head: Config of the MLP, a neck of mmpretrain. SLIP's is ``dict(type='mmpretrain.NonLinearNeck',
            in_channels=768, hid_channels=4096, out_channels=256, num_layers=3, with_bias=True, with_last_bias=True,
            with_last_bn=False, with_avg_pool=False, norm_cfg=dict(type='SyncBN'))``. ``SyncBN`` works in one process
            on a CPU, but several processes need GPUs for it.
        loss: Config of the loss. Defaults to ``NTXentLoss``.
        views: Names of the two image views. Defaults to ``('augmented_1', 'augmented_2')``.
        gather_with_grad: Let gradients flow through the embeddings of other processes, SLIP's habit for this loss.
            Defaults to True.
        pool: ``'mean'`` of the patches, or the ``'cls'`` token; choose what the image projection pools. Defaults
            to ``'mean'``.
        weight: Weight of the loss. Defaults to 1, SLIP's value.

    Raises:
        ValueError: If ``views`` are not two, or ``pool`` is unknown.
    """

    def __init__(
        self,
        head: dict,
        loss: dict | None = None,
        views: Sequence[str] = ('augmented_1', 'augmented_2'),
        gather_with_grad: bool = True,
        pool: str = 'mean',
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        if len(views) != 2 or views[0] == views[1]:
            raise ValueError(f'views={tuple(views)}: give the names of two different image views')
        self.head = MODELS.build(head)
        self.loss = MODELS.build(loss or dict(type='NTXentLoss'))
        self.views = tuple(views)
        self.gather_with_grad = gather_with_grad
        self.pool = check_pool(pool)

    def embed(self, views: Views) -> dict[str, Tensor]:
        """The normalized output of the head for both views, ``first`` and ``second``, (B, D) each."""
        views.encode_together(self.views)
        pooled = torch.cat([views.image_features(view).pool(self.pool) for view in self.views])  # (2B, C)
        # mmpretrain's necks take and return a tuple with one entry per stage of a backbone.
        (embeddings,) = self.head((pooled,))  # (2B, D)
        first, second = F.normalize(embeddings.float(), dim=-1).chunk(2)  # (B, D)
        return dict(first=first, second=second)

    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        (pairs,) = gather_pairs([rows['first']], rows['second'], self.gather_with_grad)
        return {'loss': self.loss(pairs)}
