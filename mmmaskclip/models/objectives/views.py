"""What objectives can ask about a batch: images, features, embeddings, word ids, masks and noise.

Features and embeddings are computed when first asked for and never twice. Masks, and features under a mask, are
computed each time.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mmmaskclip.contracts import ImageFeatures, ImageTower, Mask, MaskGenerator, TextTower, Views
from mmmaskclip.models.backbones import CLIPVisionTransformer
from mmmaskclip.models.backbones.read_outs import ReadOut
from mmmaskclip.models.objectives.noise import sample_noise
from mmmaskclip.models.objectives.teacher import MomentumCopy


class Towers(Protocol):
    """What :class:`BatchViews` needs of the pretrainer."""

    data_preprocessor: Any
    image_encoder: Any
    image_projection: Any
    text_encoder: Any
    teacher: MomentumCopy
    teacher_projection: MomentumCopy

    def encode_text(self, word_ids: Tensor, ends: list[int] | None = None) -> Tensor: ...

    def unit(self, projected: Tensor) -> Tensor: ...


class BatchViews(Views):
    """The views of one batch; :class:`~mmmaskclip.contracts.Views` describes the methods.

    The first objective that asks for features has them computed; the next one gets the same tensors and graph.

    Args:
        model: The pretrainer.
        batch: The preprocessed batch: images (B, 3, H, W) by view, ``tokens`` (B, L) and ``seed`` (B,).
    """

    def __init__(self, model: Towers, batch: dict[str, Any]):
        self._model = model
        self._batch = batch
        # Whether the tower can encode patches apart from images; one with `features` alone cannot.
        self._has_patches = isinstance(model.image_encoder, ImageTower)
        self._cache: dict[tuple[str, str], Any] = {}

    def _once(self, kind: str, name: str, compute: Callable[[], Any]) -> Any:
        if (kind, name) not in self._cache:
            self._cache[kind, name] = compute()
        return self._cache[kind, name]

    def _get(self, name: str) -> Tensor:
        if name not in self._batch:
            raise KeyError(
                f'an objective needs {name!r}, but the batch has only {sorted(self._batch)}: add it to the '
                "training dataset (its 'views', its captions, or the sample's 'seed')"
            )
        return self._batch[name]

    def images(self, view: str = 'image') -> Tensor:
        if self._raw(view).dtype != torch.uint8:
            return self._raw(view)
        return self._once('images', view, lambda: self._model.data_preprocessor.normalize(self._raw(view)))

    def _raw(self, view: str) -> Tensor:
        """The images as the preprocessor gives them: normalized, or uint8 if it leaves that to the patch embedding."""
        images = self._get(view)
        # (B, n, 3, H, W), n crops of each image, becomes (B * n, 3, H, W).
        return images.flatten(0, 1) if images.ndim == 5 else images

    def pixels(self, view: str = 'image') -> Tensor:
        return self._model.data_preprocessor.denormalize(self.images(view)) / 255

    def _embedded(self, view: str) -> tuple[Tensor, tuple[int, int]]:
        return self._once('embedded', view, lambda: self._embed(self.image_tower, view))

    def _embed(self, tower: Any, view: str) -> tuple[Tensor, tuple[int, int]]:
        images, normalization = self._raw(view), self._model.data_preprocessor
        embedded = None
        if images.dtype == torch.uint8 and isinstance(tower, CLIPVisionTransformer):
            embedded = tower.embed_pixels(images, normalization.mean, normalization.std)
        return tower.embed(self.images(view)) if embedded is None else embedded

    def patches(self, view: str = 'image') -> Tensor:
        return self._embedded(view)[0]

    def grid(self, view: str = 'image') -> tuple[int, int]:
        return self._embedded(view)[1]

    def mask(self, generator: MaskGenerator, view: str = 'image') -> Mask:
        return generator(self._get('seed'), self.grid(view))

    def image_features(self, view: str = 'image') -> ImageFeatures:
        def encode() -> ImageFeatures:
            if self._has_patches:
                return self.image_tower.encode(self.patches(view))
            return self.image_tower.features(self.images(view))

        return self._once('image_features', view, encode)

    def visible_features(self, visible: Tensor, view: str = 'image') -> ImageFeatures:
        return self.image_tower.encode(self.patches(view), visible)

    def encode_together(self, views: Sequence[str]) -> None:
        missing = [view for view in views if ('image_features', view) not in self._cache]
        if len(missing) < 2:
            # One view alone is encoded when it is asked for.
            return
        if self._has_patches:
            parts = [self.patches(view) for view in missing]
            features = self.image_tower.encode(torch.cat(parts))
        else:
            parts = [self.images(view) for view in missing]
            features = self.image_tower.features(torch.cat(parts))
        counts = [len(part) for part in parts]
        for view, cls, part in zip(missing, features.cls.split(counts), features.patches.split(counts), strict=True):
            self._cache['image_features', view] = ImageFeatures(cls, part)

    def projected_image(self, view: str = 'image') -> Tensor:
        project = self._model.image_projection
        return self._once('projected_image', view, lambda: project(self.image_features(view)))

    def projected_patches(self, view: str = 'image') -> Tensor:
        project = self._model.image_projection.dense
        return self._once('projected_patches', view, lambda: project(self.image_features(view).patches))

    def image_embedding(self, view: str = 'image') -> Tensor:
        return self._once('image_embedding', view, lambda: self._model.unit(self.projected_image(view)))

    def word_ids(self) -> Tensor:
        return self._get('tokens')

    def caption_ends(self) -> list[int]:
        return self._ends() or self.word_ids().argmax(dim=1).tolist()

    def _ends(self) -> list[int] | None:
        """The ends that the collate function has read on the host; None where another one made the batch."""
        return self._batch.get('caption_ends')

    def text_embedding(self) -> Tensor:
        return self._once('text_embedding', 'tokens', lambda: self._model.encode_text(self.word_ids(), self._ends()))

    def teacher_features(self, view: str = 'image') -> ImageFeatures:
        def encode() -> ImageFeatures:
            if self._has_patches:
                return self.teacher_tower.encode(self._embed(self.teacher_tower, view)[0])
            return self.teacher_tower.features(self.images(view))

        with torch.no_grad():
            return self._once('teacher_features', view, encode)

    def teacher_projected_image(self, view: str = 'image') -> Tensor:
        project = self._model.teacher_projection
        return self._once('teacher_projected_image', view, lambda: project(self.teacher_features(view)))

    def teacher_embedding(self, images: Tensor) -> Tensor:
        return self._model.teacher_projection(self.teacher_tower.features(images))

    def teacher_read_out(self, read_out: ReadOut, view: str = 'image') -> Tensor:
        with torch.no_grad():
            patches, _ = self.teacher_tower.dense(self.images(view), read_out)
            return self._model.teacher_projection.module.dense(patches)

    def labels(self, kind: str = 'label') -> Tensor:
        return self._get(kind)

    def noise(self, count: int, stream: int) -> Tensor:
        return sample_noise(self._get('seed'), count, stream)

    @property
    def image_tower(self) -> ImageTower:
        return self._model.image_encoder

    @property
    def text_tower(self) -> TextTower:
        return self._model.text_encoder

    @property
    def teacher_tower(self) -> Any:
        return self._model.teacher.module
