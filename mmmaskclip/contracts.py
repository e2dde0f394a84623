"""The contracts between the parts of mmmaskclip, on one page.

A part of your own plugs in by having these methods; subclassing a contract also takes over its defaults. Each Protocol
says who calls the part, with which shapes. The three data classes are what the parts hand to each other.

Letters of shapes: B images or pairs of this process, G of all processes, N patches of an image, K of them visible,
C width of a tower, D of the shared embedding, T captions, L words of a caption (start, end and padding included).

An image has patches, a caption has words, and an image tokenizer gives codes. ``tokens`` in a batch are word ids, as
CLIP's tokenizer calls them; in a transformer's block a token is any element of its sequence, class token included.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POOLS = ('mean', 'cls')


@dataclass(frozen=True)
class ImageFeatures:
    """What an image tower returns, after its final norm.

    Attributes:
        cls: Class token, (B, C).
        patches: One vector per encoded patch, (B, N, C).
    """

    cls: Tensor
    patches: Tensor

    def pool(self, how: str) -> Tensor:
        """One vector per image, (B, C): ``'mean'`` of the patches or the ``'cls'`` token; else a ValueError."""
        return self.patches.mean(dim=1) if check_pool(how) == 'mean' else self.cls

    def detach(self) -> 'ImageFeatures':
        """The same features, cut from the graph."""
        return ImageFeatures(self.cls.detach(), self.patches.detach())


def check_pool(how: str) -> str:
    """Return ``how``, or raise ValueError if it is not in :data:`POOLS`."""
    if how not in POOLS:
        raise ValueError(f"pool={how!r}: choose 'mean' or 'cls'")
    return how


@dataclass(frozen=True)
class Mask:
    """Which patches of each image are hidden; every image has the same number of them.

    Attributes:
        visible: Indices of the visible patches, (B, K).
        masked: Indices of the hidden patches, (B, N - K).
    """

    visible: Tensor
    masked: Tensor

    @property
    def restore(self) -> Tensor:
        """Indices (B, N) that sort (visible, masked) into patch order (MAE's ids_restore)."""
        return torch.cat((self.visible, self.masked), dim=1).argsort(dim=1)

    @property
    def hidden(self) -> Tensor:
        """Whether each patch is hidden, bool (B, N)."""
        return self.restore >= self.visible.shape[1]


@dataclass(frozen=True)
class Similarities:
    """Cosine similarities of features to codewords that are not multiplied out: at full scale they are gigabytes.

    Attributes:
        features: L2-normalized, float32 (..., D).
        codewords: L2-normalized, float32 (K, D).
    """

    features: Tensor
    codewords: Tensor

    def whole(self) -> Tensor:
        """The similarities, float32 (..., K), under any autocast."""
        with torch.autocast(self.features.device.type, enabled=False):
            return F.linear(self.features, self.codewords)


@dataclass(frozen=True)
class Pairs:
    """Matching rows to contrast, and the rows of all processes. Row i of ``first`` belongs to row i of ``second``.

    Attributes:
        first: Normalized embeddings of this process, e.g. of images, (B, D).
        second: Their partners, e.g. captions, (B, D).
        all_first: ``first`` of all processes in rank order, (G, D).
        all_second: ``second`` of all processes, (G, D).
        first_row: Position of this process's first row in the gathered rows.
        labels: Class of each row, int64 (B,), or (B, K): rows that agree in one of K kinds of class belong together. A
            negative one is a class of its own. None without classes: only a row and its partner belong together.
        all_labels: ``labels`` of all processes, (G,) or (G, K).
    """

    first: Tensor
    second: Tensor
    all_first: Tensor
    all_second: Tensor
    first_row: int = 0
    labels: Tensor | None = None
    all_labels: Tensor | None = None

    @property
    def positions(self) -> Tensor:
        """Positions of this process's rows in the gathered rows, int64 (B,)."""
        return torch.arange(self.first_row, self.first_row + len(self.first), device=self.first.device)


@runtime_checkable
class ImageTower(Protocol):
    """An image encoder, built from ``model.image_encoder``.

    Methods that look at whole images (CLIP, SigLIP, UniCL, SLIP, SILC) need ``features`` alone, and any backbone gets
    it from ``WholeImageTower``. Objectives that say ``needs_patches`` call all four.
    """

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patch embeddings with positions (B, N, C) of images (B, 3, H, W), and their grid (rows, columns)."""

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Position embeddings of a grid of patches, (1, N, C)."""

    def encode(self, patches: Tensor, visible: Tensor | None = None) -> ImageFeatures:
        """Features, after the final norm, of all embedded patches (B, N, C) or of the ``visible`` ones (B, K)."""

    def features(self, images: Tensor) -> ImageFeatures:
        """Features of whole images: ``embed``, then ``encode``."""


@runtime_checkable
class DenseTower(Protocol):
    """An image encoder that also gives one vector for every patch, for segmentation, regions and similarity maps."""

    def dense(self, images: Tensor, read_out: Any = 'patch') -> tuple[Tensor, tuple[int, int]]:
        """Patches (B, N, C) of images (B, 3, H, W) of any size, and their grid (rows, columns)."""


@runtime_checkable
class TextTower(Protocol):
    """A text encoder, built from ``model.text_encoder``. Calling it on word ids (T, L) gives captions (T, C)."""

    def embed(self, word_ids: Tensor, hidden: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Word embeddings with positions (T, L, C); ``mask_token`` (C,) replaces the ``hidden`` words, bool (T, L)."""

    def encode(self, words: Tensor, positions: Tensor | None = None) -> Tensor:
        """Features, after the final norm, of all embedded words (T, L, C), or of one position per caption (T, C)."""

    def __call__(self, word_ids: Tensor, ends: list[int] | None = None) -> Tensor: ...


class MaskGenerator(Protocol):
    """Chooses the patches to hide, built from an objective's ``mask``."""

    def __call__(self, seeds: Tensor, grid: tuple[int, int]) -> Mask:
        """Hide patches of a grid (rows, columns). A sample's mask depends on its seed, int64 (B,), alone."""


class Views(Protocol):
    """All that an objective may ask about the batch.

    Each answer is computed when it is first asked for and kept for the step, so no two objectives encode the same
    thing, and what nobody asks for costs nothing. ``view`` is a name under the training dataset's ``views``.
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
        """Position of each caption's end, on the host: who needs counts of words need not wait for the device."""

    def text_embedding(self) -> Tensor:
        """The L2-normalized caption embedding, float32 (B, D)."""

    def teacher_features(self, view: str = 'image') -> ImageFeatures:
        """The EMA teacher's features of the whole images, without gradient. Needs ``needs_teacher``."""

    def teacher_projected_image(self, view: str = 'image') -> Tensor:
        """The teacher's :meth:`projected_image`, without gradient. Needs ``needs_teacher_embedding``."""

    def teacher_embedding(self, images: Tensor) -> Tensor:
        """The same of images (n, 3, h, w) that are no view, such as crops of one."""
        ...

    def labels(self, kind: str = 'label') -> Tensor:
        """Class of every image, int64 (B,), negative for a pair, a class of its own; or ``'image_id'`` of its file."""

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
    """What compares a prediction with a target. Any loss of torch fits, e.g. ``dict(type='torch.nn.SmoothL1Loss')``."""

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Scalar; both are (B, M, C). The target has no gradient."""


class ContrastiveLoss(Protocol):
    """What ``ImageTextContrast`` calls with images as ``first`` and captions as ``second``."""

    #: The loss reads ``pairs.labels``.
    needs_labels: bool = False
    #: Some rows learn only through the gather, so ``gather_with_grad=False`` is refused.
    needs_gather_grad: bool = False

    def __call__(self, pairs: Pairs, logit_scale: Tensor) -> Tensor:
        """Scalar, the mean over this process's rows; ``logit_scale`` is the inverse temperature."""


@runtime_checkable
class FollowsRun(Protocol):
    """A module that changes during the run. The pretrainer finds every such module inside itself and calls it."""

    def set_progress(self, progress: float) -> None:
        """Receive the share of the run, in [0, 1], that is done; called before every iteration."""

    def after_optimizer_step(self) -> None:
        """Update what moves once per optimizer step; not called after a skipped step."""

    def logged(self) -> dict[str, float | Tensor]:
        """Values to log; tensors are 0-dim and stay on the device until the log interval ends."""
        return {}


class Objective(FollowsRun, Protocol):
    """One training signal. ``mmmaskclip.models.objectives.Objective`` is the base class that has all but forward."""

    #: The pretrainer must keep an EMA teacher of the image tower.
    needs_teacher: bool
    #: The pretrainer must keep an EMA copy of the image projection, too.
    needs_teacher_embedding: bool
    #: It looks at single patches, so the image tower must encode a part of them.
    needs_patches: bool
    #: Each loss is a mean over samples, so that the mean over micro-batches is that of the batch.
    per_sample: bool

    def weight(self, progress: float) -> float:
        """Factor of its losses, which the pretrainer applies."""

    def __call__(self, views: Views) -> dict[str, Tensor]:
        """Values by name, unweighted; those with 'loss' in their name are summed, the others only logged."""


@runtime_checkable
class PretrainModel(FollowsRun, Protocol):
    """The model of a pretraining run: ``ModelStepHook`` drives it, ``TrainingMonitorHook`` logs it."""

    def __call__(self, mode: str = 'tensor', **batch: Any) -> Any:
        """Losses by name (``mode='loss'``), one dict per image (``'predict'``), or embeddings (``'tensor'``)."""


@runtime_checkable
class OpenVocabularyModel(Protocol):
    """A model whose patches can be compared with words."""

    def encode_dense(self, images: Tensor, read_out: Any = 'patch') -> Tensor:
        """Patch embeddings (B, D, h, w) of normalized images (B, 3, H, W)."""

    def tokenize(self, texts: list[str]) -> list[Tensor]:
        """Word ids (L,) of each text."""

    def encode_text(self, word_ids: Tensor) -> Tensor:
        """Caption embeddings (T, D), L2-normalized, of word ids (T, L)."""


@runtime_checkable
class Described(Protocol):
    """A dataset, for training or evaluation, that states facts about itself."""

    #: mmengine's facts about the data, e.g. ``classes``; may be empty.
    metainfo: Mapping[str, Any]


class TrainingSamples(Described, Protocol):
    """A training dataset. One with none of the next three contracts trains, too, in the order of its sampler."""

    def __len__(self) -> int:
        """Samples of this process in one epoch."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Samples: a uint8 tensor per view, ``tokens``, ``seed``, ``key``, and ``skipped``, the bad ones before it."""


@runtime_checkable
class CountsSamples(Protocol):
    """An iterable dataset that knows its size, of which ``len`` is the rounded share of one process."""

    #: Samples of all processes in one epoch.
    total_samples: int


@runtime_checkable
class OrdersEpochs(Protocol):
    """A dataset or sampler whose order, or whose random choices, depend on the epoch."""

    def begin_epoch(self, epoch: int, seed: int, batch_size: int, start_batch: int = 0) -> None:
        """Set what the next pass over the loader reads; it must reach persistent workers.

        Args:
            epoch: Counted from 0.
            seed: The run's seed, the same on all ranks.
            batch_size: Samples per batch and rank.
            start_batch: Batches of this rank to leave out at the beginning of the epoch.
        """


@runtime_checkable
class ChecksBeforeTraining(Protocol):
    """A dataset that can look at its files before the first step."""

    def preflight(self) -> None:
        """Check the files. Collective: every rank calls it, once, and each may look at a share of them.

        Raises:
            ValueError: The data cannot be used, on one rank or on all. Names the files, what was expected, the remedy.
        """


class Metric(Protocol):
    """An evaluation metric of mmengine. Two optional additions follow."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what the metric needs of one batch and its predictions."""

    def evaluate(self, size: int) -> dict[str, float]:
        """Values by name over ``size`` samples of all processes."""


@runtime_checkable
class PreparedMetric(Protocol):
    """A metric that looks at the model before the first batch, e.g. to embed class names."""

    def prepare(self, model: nn.Module) -> None:
        """Receive the bare model; called once per evaluation."""


@runtime_checkable
class SelfPredictingMetric(Protocol):
    """A metric that may run the model itself, such as a probe."""

    #: False: the loop need not compute predictions for this metric.
    needs_predictions: bool
