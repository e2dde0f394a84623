"""Contracts of a training step: towers, views, losses, objectives, models. The package explains the letters."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mmmaskclip.contracts.values import ImageFeatures, Mask, Pairs


@runtime_checkable
class ImageTower(Protocol):
    """An image encoder, built from ``model.image_encoder``.

    CLIP, SigLIP, UniCL, SLIP and SILC encode whole images and call ``features`` alone; ``WholeImageTower`` gives it to
    any backbone. Objectives with ``needs_patches`` call all four methods.
    """

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch embeddings with positions (B, N, C) of images (B, 3, H, W), and their grid (rows, columns)."""

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings of a grid (rows, columns) of patches, (1, N, C)."""

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> ImageFeatures:
        """Features, after the final norm, of all embedded patches (B, N, C) or of the ``visible`` ones (B, K)."""

    def features(self, images: Tensor) -> ImageFeatures:
        """Features of whole images: ``embed``, then ``encode``."""


@runtime_checkable
class TextTower(Protocol):
    """A text encoder, built from ``model.text_encoder``. Calling it on word ids (T, L) gives captions (T, C)."""

    def embed(self, word_ids: Tensor, hidden: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Word embeddings with positions (T, L, C); ``mask_token`` (C,) replaces the ``hidden`` words, bool (T, L)."""

    def encode(self, words: Tensor, positions: Tensor | None = None) -> Tensor:
        """Features, after the final norm, of all embedded words (T, L, C), or of one position per caption (T, C)."""

    def __call__(self, word_ids: Tensor, ends: list[int] | None = None) -> Tensor: ...


class MaskGenerator(Protocol):
    """Chooses the patches to hide. Built from the ``mask`` of an objective's config."""

    def __call__(self, seeds: Tensor, grid: tuple[int, int]) -> Mask:
        """Hide patches of a grid (rows, columns). A sample's mask depends on its seed, one of int64 (B,), alone."""


class Views(Protocol):
    """All that an objective may ask about the batch.

    Views compute an answer when an objective first asks for it, and keep it for the step. So no two objectives
    encode the same images, and an answer that no objective asks for costs nothing. ``view`` is a name under ``views``
    of the training dataset.
    """

    def images(self, view: str = 'image') -> Tensor:
        """Normalized images (B, 3, H, W); n crops per image come as (B * n, 3, H, W), image by image."""

    def pixels(self, view: str = 'image') -> Tensor:
        """The images before their normalization, in [0, 1]."""

    def patches(self, view: str = 'image') -> Tensor:
        """The student's patch embeddings with positions, (B, N, C): input of the full and of the masked pass."""

    def grid(self, view: str = 'image') -> tuple[int, int]:
        """Rows and columns of a view's patches."""

    def mask(self, generator: MaskGenerator, view: str = 'image') -> Mask:
        """The patches that ``generator`` hides, drawn from the samples' seeds."""

    def image_features(self, view: str = 'image') -> ImageFeatures:
        """The student's features of the whole images."""

    def visible_features(self, visible: Tensor, view: str = 'image') -> ImageFeatures:
        """The student's features of the visible patches (B, K) alone. Not kept: every mask is another."""

    def encode_together(self, views: Sequence[str]) -> None:
        """Encode several views of one size in one pass; later calls get their features."""

    def projected_image(self, view: str = 'image') -> Tensor:
        """The image embedding before its normalization, (B, D)."""

    def projected_patches(self, view: str = 'image') -> Tensor:
        """Every patch in the space of the captions, before its normalization, (B, N, D)."""

    def image_embedding(self, view: str = 'image') -> Tensor:
        """The L2-normalized image embedding, float32 (B, D)."""

    def word_ids(self) -> Tensor:
        """The captions, (B, L): start, words, end (the highest id), padding."""

    def caption_ends(self) -> list[int]:
        """Position of each caption's end token. On the host, so that counting words does not wait for the device."""

    def text_embedding(self) -> Tensor:
        """The L2-normalized caption embedding, float32 (B, D)."""

    def teacher_features(self, view: str = 'image') -> ImageFeatures:
        """The EMA teacher's features of the whole images, without gradient. Needs ``needs_teacher``."""

    def teacher_projected_image(self, view: str = 'image') -> Tensor:
        """The teacher's :meth:`projected_image`, without gradient. Needs ``needs_teacher_embedding``."""

    def teacher_embedding(self, images: Tensor) -> Tensor:
        """The teacher's image embeddings, L2-normalized (n, D), of images (n, 3, h, w) that are no view, e.g. crops."""
        ...

    def teacher_read_out(self, read_out: Any, view: str = 'image') -> Tensor:
        """The teacher's patches by a read-out in the space of the captions, without gradient, (B, N, D). Not kept.

        Needs ``needs_teacher_embedding``.
        """

    def labels(self, kind: str = 'label') -> Tensor:
        """Class of every image, int64 (B,); a negative one is a class of its own. ``'image_id'``: id of its file."""

    def noise(self, count: int, stream: int) -> Tensor:
        """Uniform noise (B, count) that depends on each sample's seed and the stream's number alone."""

    @property
    def image_tower(self) -> ImageTower:
        """The student's image tower, for a pass that no other objective shares."""

    @property
    def text_tower(self) -> TextTower:
        """The text tower, for a pass over changed captions."""

    @property
    def teacher_tower(self) -> ImageTower:
        """The EMA teacher's image tower, for a pass that no other objective shares."""


class Loss(Protocol):
    """Compares a prediction with a target. Any loss of torch fits, e.g. ``dict(type='torch.nn.SmoothL1Loss')``."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """A scalar loss of prediction and target, each (B, M, C). The target has no gradient."""


class ContrastiveLoss(Protocol):
    """A loss over pairs. ``ImageTextContrast`` calls it with images as ``first`` and captions as ``second``."""

    #: The loss reads ``pairs.labels``.
    needs_labels: bool = False
    #: Some rows get gradient only through the gather, so ``gather_with_grad=False`` is refused.
    needs_gather_grad: bool = False

    def __call__(self, pairs: Pairs, logit_scale: Tensor) -> Tensor:
        """Scalar, the mean over this process's rows; ``logit_scale`` is the inverse temperature."""


@runtime_checkable
class FollowsRun(Protocol):
    """A module that changes during the run. The pretrainer finds every such module inside itself and calls it."""

    def set_progress(self, progress: float) -> None:
        """Receive the fraction of the run that is done, in [0, 1]. Called before every iteration."""

    def after_optimizer_step(self) -> None:
        """Update what moves once per optimizer step, e.g. an EMA copy. Not called after a skipped step."""

    def logged(self) -> dict[str, float | Tensor]:
        """Values to log; tensors are 0-dim and stay on the device until the log interval ends."""
        return {}


class Objective(FollowsRun, Protocol):
    """One training signal. Its base class ``mmmaskclip.models.objectives.Objective`` has everything but ``forward``."""

    #: The pretrainer must keep an EMA teacher of the image tower.
    needs_teacher: bool
    #: The pretrainer must also keep an EMA copy of the image projection.
    needs_teacher_embedding: bool
    #: The objective uses single patches, so the image tower must be able to encode some of them alone.
    needs_patches: bool
    #: Each loss is a mean over samples. The mean over micro-batches then equals the mean over the batch.
    per_sample: bool

    def weight(self, progress: float) -> float:
        """Factor of this objective's losses at a progress in [0, 1]. The pretrainer applies it."""

    def __call__(self, views: Views) -> dict[str, Tensor]:
        """Values by name, unweighted; those with 'loss' in their name are summed, the others only logged."""


@runtime_checkable
class PretrainModel(FollowsRun, Protocol):
    """The model of a pretraining run: ``ModelStepHook`` drives it, ``TrainingMonitorHook`` logs it."""

    def __call__(self, mode: str = 'tensor', **batch: Any) -> Any:
        """Losses by name (``mode='loss'``), one dict per image (``'predict'``), or embeddings (``'tensor'``)."""
