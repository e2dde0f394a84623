"""Base of the zero-shot metrics: class names in prompts, which the evaluated model encodes."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from torch import Tensor, nn

from mmmaskclip.datasets.prompts import ClassPrompts
from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.frozen_features import normalized_images
from mmmaskclip.models.backbones.mixed_read_outs import ReadOuts, weighted_read_outs
from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes


class PromptedMetric(BaseMetric):
    """A metric that compares images with class names.

    Args:
        classes: Name or path of a prompt file, or the class names (or lists of synonyms) in the order of the labels.
        templates: Name or path of a prompt file, or templates. Default: those in the classes' file.
        collect_device: How the processes exchange results, see ``RetrievalRecall``.
        prefix: Prefix of the metric names; the loop sets the task's name.

    Attributes:
        class_embeds (Tensor | None): (K, D), L2-normalized; None before :meth:`prepare`.
    """

    #: Whether patches, not images, are compared with the class names.
    for_patches = False

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.prompts = ClassPrompts(classes, templates)
        self.class_embeds: Tensor | None = None

    def check_data(self, dataset: Any) -> None:
        """Compare the classes of the prompts with those that the data set names, if it names any.

        Args:
            dataset: Not used: the loop has set ``dataset_meta``.

        Raises:
            ValueError: If their numbers differ, or a name has another index.
        """
        if (named := (self.dataset_meta or {}).get('classes')) is not None:
            self.prompts.check_order(named, 'this metric')

    def prepare(self, model: nn.Module) -> None:
        """Encode the class prompts with the model that is evaluated.

        Args:
            model: Has ``encode_text``; in evaluation mode.
        """
        self.class_embeds = encode_classes(
            model, self.prompts.classes, self.prompts.templates, for_patches=self.for_patches
        )

    def prepared(self) -> Tensor:
        """The embeddings of the classes, (K, D), from :meth:`prepare`.

        Raises:
            RuntimeError: If ``prepare`` was not called.
        """
        if self.class_embeds is None:
            raise RuntimeError(f'{type(self).__name__}.prepare(model) must be called before a batch is processed')
        return self.class_embeds


class DensePromptedMetric(PromptedMetric):
    """A metric that compares the patches of images with class names. It runs the model itself.

    Args:
        classes: See :class:`PromptedMetric`.
        templates: See :class:`PromptedMetric`.
        read_out: One read-out or several, see
            :meth:`~mmmaskclip.models.pretrainers.ImageTextPretrainer.encode_dense`. Defaults to ``'patch'``.
        ignore_index: Mask value of pixels without a class. Defaults to 255.
        collect_device: See :class:`PromptedMetric`.
        prefix: See :class:`PromptedMetric`.

    Raises:
        ValueError: If ``read_out`` or one of its options is unknown.
    """

    needs_predictions = False
    for_patches = True

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]],
        templates: str | Sequence[str] | None = None,
        read_out: ReadOuts = 'patch',
        ignore_index: int = 255,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(classes, templates, collect_device, prefix)
        weighted_read_outs(read_out)
        self.read_out = read_out
        self.ignore_index = ignore_index
        self.model: Any = None

    def prepare(self, model: nn.Module) -> None:
        """Encode the class prompts, and keep the model for the patches.

        Args:
            model: Has ``encode_text``, ``encode_dense``, ``image_encoder`` and ``data_preprocessor``, as
                ``ImageTextPretrainer``; in evaluation mode.
        """
        super().prepare(model)
        self.model = model

    def encode_patches(self, batch: dict) -> tuple[Tensor, tuple[float, float]]:
        """Encode the patches of a batch.

        Args:
            batch: ``image`` uint8 (B, 3, H, W) and optionally ``key``.

        Returns:
            Patch embeddings (B, D, h, w), and the fraction of the patch grid, (height, width), that the image fills.

        Raises:
            ValueError: If embeddings are not finite.
        """
        images = normalized_images(self.model, batch)  # (B, 3, H, W)
        embeds = self.model.encode_dense(images, self.read_out)  # (B, D, h, w)
        check_finite(embeds, batch.get('key', range(len(images))))
        return embeds, self.model.image_encoder.unpadded_fraction(images.shape[2:])

    def evaluate(self, size: int) -> dict:
        """Compute the metrics as ``BaseMetric`` does, then release the model."""
        metrics = super().evaluate(size)
        self.model = None
        return metrics
