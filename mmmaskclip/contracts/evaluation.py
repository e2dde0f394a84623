"""Contracts of an evaluation: models whose patches are compared with words, and metrics."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class DenseTower(Protocol):
    """An image encoder that also gives one vector for every patch, for segmentation, regions and similarity maps."""

    def dense(self, images: Tensor, read_out: Any = 'patch') -> tuple[Tensor, tuple[int, int]]:
        """Patches (B, N, C) of images (B, 3, H, W) of any size, and their grid (rows, columns)."""


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
class TextsForPatches(Protocol):
    """A model of whose text embeddings a part is for patches; of others patches are compared with all of them."""

    def texts_for_patches(self, embeds: Tensor) -> Tensor:
        """What patches are compared with, (T, D of the patches), L2-normalized, of caption embeddings (T, D)."""


class Metric(Protocol):
    """An evaluation metric of mmengine. The next contracts are optional additions."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what the metric needs of one batch and its predictions."""

    def evaluate(self, size: int) -> dict[str, float]:
        """Values by name over ``size`` samples of all processes."""


@runtime_checkable
class ChecksData(Protocol):
    """A metric that compares its settings with the data set, so that a mistake ends a run before it has begun."""

    def check_data(self, dataset: Any) -> None:
        """Receive the data set of the task; called once, when the loop is built: no image has been encoded.

        Raises:
            ValueError: If the data set is not the one of the protocol, or does not fit the metric's settings.
        """


@runtime_checkable
class ListsCaptions(Protocol):
    """A data set that knows its captions without decoding images."""

    def __len__(self) -> int:
        """Number of images."""

    def row(self, index: int) -> tuple[str, list[str]]:
        """Name and captions of an image."""


@runtime_checkable
class PreparedMetric(Protocol):
    """A metric that looks at the model before the first batch, e.g. to embed class names."""

    def prepare(self, model: nn.Module) -> None:
        """Receive the bare model; called once per evaluation."""


@runtime_checkable
class SelfPredictingMetric(Protocol):
    """A metric that says whether it uses predictions. A probe, for example, runs the model itself."""

    #: False: the loop computes no predictions for this metric.
    needs_predictions: bool
