"""MaskCLIP: predict, from the visible patches, what a teacher sees in the whole image."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import ImageFeatures, ImageTower, Mask, Views
from mmmaskclip.models.backbones import gather_tokens
from mmmaskclip.models.objectives.at_once import loss_at_once
from mmmaskclip.models.objectives.base import Objective, check_patches
from mmmaskclip.models.objectives.noise import LOSS_STREAM
from mmmaskclip.models.objectives.targets import FrozenEncoder
from mmmaskclip.models.objectives.teacher import MomentumCopy
from mmmaskclip.registry import MODELS

_TARGETS = dict(
    ema='the EMA teacher', shared="the student's own full-image pass", frozen='the image tower of a checkpoint'
)


@MODELS.register_module()
class MaskedSelfDistillation(Objective):
    """Masked self-distillation (MaskCLIP section 3.2, Eq. 4 to 6).

    The student encodes the visible patches only, a small decoder predicts the features of all patches, and the loss
    compares the hidden ones with the teacher's features of the full image.

    The two published forms: ``head=None`` with ``FeatureRegressionLoss``, or another loss of prediction and target,
    regresses raw features (arXiv v1); ``PrototypeHead`` with ``CodewordLoss`` matches soft codewords (CVPR).

    Args:
        decoder: Config of the neck that predicts patches; it is asked only for those that the loss looks at.
        loss: Config of the loss between prediction and target.
        head: Config of the head on both; the target's is an EMA copy of it. Defaults to None.
        mask: Config of the mask generator. Defaults to ``RandomMask`` of 75 %.
        target: ``'ema'``, the EMA teacher of the image tower; ``'shared'``, the student's own features of the full
            image, detached, which the contrastive loss has paid for; ``'frozen'``, the image tower of an earlier run
            (second stage of two-stage training, MaskCLIP v1's ablation). Defaults to ``'ema'``.
        frozen: Arguments of :class:`~.targets.FrozenEncoder`, for ``target='frozen'``:
            ``dict(encoder=dict(type='CLIPVisionTransformer', ...), checkpoint='path')``. Defaults to None.
        teacher_image_size: Image side in pixels for the target's pass (A-CLIP halves it): images are resized to it, and
            target patches to the student's grid, bilinearly. Defaults to None, the student's size.
        loss_on: ``'masked'`` patches, as the papers; or ``'all'`` of them. Defaults to ``'masked'``.
        loss_share: Share of these patches, in (0, 1], that the loss looks at, drawn anew for every sample: an unbiased
            estimate, for less of decoder and head. Defaults to 1.
        image_share: Share of a batch's images, in (0, 1], that are distilled: the first ones, for batches come in
            random order. For ``target='shared'``; micro-batches are refused. Defaults to 1.
        start_fraction: Share of the run, in [0, 1), after which the objective starts (SigLIP 2 starts at 0.8). Until
            then it returns no loss, so the config needs another objective and, with several processes,
            ``find_unused_parameters=True``. Defaults to 0.
        images_at_once: Compute the student's pass, the decoder and their gradients for this many images at a time, in
            the forward pass, so that memory holds no more of them. Gradients are equal to rounding (drop path draws
            anew). Defaults to None: all images, with the gradients in the backward pass.
        weight: Weight of the loss. Defaults to 1.

    Raises:
        ValueError: If an option is unknown or contradicts ``target``; in the first step, if the decoder is made for
            another number of patches than the images have, or the target has another width than the prediction.
    """

    per_sample = True
    needs_patches = True

    def __init__(
        self,
        decoder: dict,
        loss: dict,
        head: dict | None = None,
        mask: dict | None = None,
        target: str = 'ema',
        frozen: dict | None = None,
        teacher_image_size: int | None = None,
        loss_on: str = 'masked',
        loss_share: float = 1.0,
        image_share: float = 1.0,
        start_fraction: float = 0.0,
        images_at_once: int | None = None,
        weight: float | dict = 1.0,
    ):
        super().__init__(weight)
        if target not in _TARGETS:
            choices = ', '.join(f'{name!r} ({what})' for name, what in _TARGETS.items())
            raise ValueError(f'target={target!r}: choose one of {choices}')
        if (target == 'frozen') != (frozen is not None):
            raise ValueError(f"target={target!r} with frozen={frozen}: give frozen=dict(...) exactly with 'frozen'")
        if target == 'shared' and teacher_image_size is not None:
            raise ValueError(
                f"teacher_image_size={teacher_image_size} with target='shared': that target is the student's own pass, "
                "which is there at full size; leave it out, or choose target='ema'"
            )
        if loss_on not in ('masked', 'all'):
            raise ValueError(f"loss_on={loss_on!r}: choose 'masked' or 'all'")
        for name, share in (('loss_share', loss_share), ('image_share', image_share)):
            if not 0 < share <= 1:
                raise ValueError(f'{name}={share}: it is a share, above 0 and at most 1')
        if image_share < 1 and target != 'shared':
            raise ValueError(
                f'image_share={image_share} with target={target!r}, whose pass over all images is computed: set '
                "target='shared', or leave image_share out"
            )
        if not 0 <= start_fraction < 1:
            raise ValueError(f'start_fraction={start_fraction}: it is a share of the run, in [0, 1)')
        self.needs_teacher = target == 'ema'
        self.teacher_image_size = teacher_image_size
        self.loss_on = loss_on
        self.loss_share, self.image_share = loss_share, image_share
        # The first images of two halves are not those of the whole.
        self.per_sample = image_share == 1
        self.start_fraction = start_fraction
        self.images_at_once = images_at_once
        self.mask = MODELS.build(mask or dict(type='RandomMask'))
        self.decoder = MODELS.build(decoder)
        self.head = nn.Identity() if head is None else MODELS.build(head)
        self.target_head = nn.Identity() if head is None else MomentumCopy(self.head)
        self.frozen = None if frozen is None else FrozenEncoder(**frozen)
        self.loss = MODELS.build(loss)
        self._spread: dict[str, Tensor] = {}

    def forward(self, views: Views) -> dict[str, Tensor]:
        if self.progress < self.start_fraction:
            return {}
        check_patches(views, self.decoder.num_patches)
        mask, patches = views.mask(self.mask), views.patches()  # (B, N, C)
        queries = self._queries(views, mask)
        target = self._target(views)  # (B, N, C)
        if self.image_share < 1:
            first = slice(max(1, round(self.image_share * len(patches))))
            mask, patches, target = Mask(mask.visible[first], mask.masked[first]), patches[first], target[first]
            queries = None if queries is None else queries[first]
        if queries is not None:
            # Before the head, so that it is computed only where the loss looks.
            target = gather_tokens(target, queries)  # (B, M, C)

        def compute(patches: Tensor, part: slice) -> Tensor:
            features = views.image_tower.encode(patches, mask.visible[part])
            some_queries = None if queries is None else queries[part]
            return self._compare(features, mask.visible[part], some_queries, target[part])

        if self.images_at_once is None:
            return {'loss': compute(patches, slice(None))}
        tower = cast(nn.Module, views.image_tower)
        learned = (*tower.parameters(), *self.decoder.parameters(), *self.head.parameters())
        return {'loss': loss_at_once(compute, patches, learned, self.images_at_once)}

    def _queries(self, views: Views, mask: Mask) -> Tensor | None:
        """Indices (B, M) of the patches that the loss looks at; None for all."""
        among = mask.masked if self.loss_on == 'masked' else None  # (B, M)
        if self.loss_share == 1:
            return among
        count = mask.visible.shape[1] + mask.masked.shape[1] if among is None else among.shape[1]
        order = views.noise(count, LOSS_STREAM).argsort(dim=1, stable=True)  # (B, count)
        chosen = order[:, : max(1, round(self.loss_share * count))]
        return chosen if among is None else among.gather(1, chosen)

    def _compare(self, features: ImageFeatures, visible: Tensor, queries: Tensor | None, target: Tensor) -> Tensor:
        """Scalar loss of the student's features of the visible patches (B, K) against the target (B, M or N, C)."""
        predicted = self.decoder(features, visible, queries)  # (B, M or N, C)
        if target.shape != predicted.shape:
            raise ValueError(
                f'the target is {target.shape[-1]} wide, the prediction {predicted.shape[-1]}: set decoder.width '
                "and frozen.encoder to the student's width"
            )
        with torch.no_grad():
            self._spread = {'prediction_std': _spread(predicted), 'target_std': _spread(target)}
            target = self.target_head(target)
        return self.loss(self.head(predicted), target)

    def logged(self) -> dict[str, float | Tensor]:
        """Spread of prediction and target before the head, in the last batch; a fall towards 0 is a collapse."""
        return dict(self._spread)

    def _target(self, views: Views) -> Tensor:
        """The target's features of all patches of the student's grid, without gradient, (B, N, C)."""
        if self.frozen is None and self.teacher_image_size is None:
            # Not under no_grad: the contrastive loss needs the graph of the pass that is shared.
            features = views.teacher_features() if self.needs_teacher else views.image_features()
            return features.patches.detach()
        tower = views.teacher_tower if self.frozen is None else self.frozen.encoder
        return patches_of_a_pass(views, tower, self.teacher_image_size)


@torch.no_grad()
def patches_of_a_pass(views: Views, tower: ImageTower, image_size: int | None) -> Tensor:
    """A tower's features, on the student's grid, from a pass that no other objective can use, (B, N, C).

    Args:
        views: The views of the batch.
        tower: The image tower.
        image_size: Side in pixels to which the images are resized, bilinearly. None: as they are.
    """
    images = views.images()
    if image_size is not None:
        images = F.interpolate(images, (image_size, image_size), mode='bilinear', antialias=True)
    patches, grid = tower.embed(images)
    return _resize_grid(tower.encode(patches).patches, grid, views.grid())


def _spread(features: Tensor) -> Tensor:
    """Standard deviation over all tokens of features (B, M, C), mean over channels, on their device."""
    return features.float().std(dim=(0, 1), correction=0).mean()


def _resize_grid(patches: Tensor, grid: tuple[int, int], new_grid: tuple[int, int]) -> Tensor:
    """Resize patch features (B, N, C) from one grid (rows, columns) to another, bilinearly and in float32."""
    if grid == new_grid:
        return patches
    maps = patches.float().transpose(1, 2).unflatten(2, grid)  # (B, C, rows, columns)
    return F.interpolate(maps, new_grid, mode='bilinear', align_corners=False).flatten(2).transpose(1, 2)
