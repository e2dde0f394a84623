"""The encoded views of one batch, each computed when first asked for and never twice."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmaskclip.models.backbones import ImageFeatures
from mmmaskclip.models.objectives.noise import sample_noise

if TYPE_CHECKING:
    from mmmaskclip.models.pretrainers import ImageTextPretrainer


class Views:
    """What the objectives of one step look at.

    The first objective that asks for a view pays for it; the next one gets the same tensors, with the same graph. A
    view that no objective asks for costs nothing. ``image`` names one of the batch's image tensors; the dataset may
    yield more of them (augmented views, crops) under other names.

    Args:
        model: The pretrainer, for its towers and projections.
        batch: The preprocessed batch: images (B, 3, H, W) by name, ``tokens`` (B, L) and ``seed`` (B,).
    """

    def __init__(self, model: 'ImageTextPretrainer', batch: dict[str, Any]):
        self.model = model
        self.batch = batch
        self._cache: dict[tuple[str, str], Any] = {}

    def _once(self, kind: str, name: str, compute: Callable[[], Any]) -> Any:
        if (kind, name) not in self._cache:
            self._cache[kind, name] = compute()
        return self._cache[kind, name]

    def _get(self, name: str) -> Tensor:
        if name not in self.batch:
            raise KeyError(
                f'an objective needs {name!r}, but the batch has only {sorted(self.batch)}: add it to the '
                "training dataset (its 'views', its captions, or the sample's 'seed')"
            )
        return self.batch[name]

    def images(self, image: str = 'image') -> Tensor:
        """The normalized images of a view, (B, 3, H, W); n crops of each image as (B * n, 3, H, W), image by image."""
        images = self._get(image)
        return images.flatten(0, 1) if images.ndim == 5 else images

    def _embedded(self, image: str) -> tuple[Tensor, tuple[int, int]]:
        return self._once('embedded', image, lambda: self.model.image_encoder.embed(self.images(image)))

    def patch_tokens(self, image: str = 'image') -> Tensor:
        """The student's patch embeddings with positions, (B, N, C): the input of the full and of the masked pass."""
        return self._embedded(image)[0]

    def grid(self, image: str = 'image') -> tuple[int, int]:
        """Rows and columns of a view's patches."""
        return self._embedded(image)[1]

    def image_features(self, image: str = 'image') -> ImageFeatures:
        """The student's features of the full image."""
        encode = self.model.image_encoder.encode
        return self._once('image_features', image, lambda: encode(self.patch_tokens(image)))

    def visible_features(self, visible: Tensor, image: str = 'image') -> ImageFeatures:
        """The student's features of the visible patches (B, K) alone. Masks differ, so this is not kept."""
        return self.model.image_encoder.encode(self.patch_tokens(image), visible)

    def encode_together(self, images: Sequence[str]) -> None:
        """Encode several views of the same size in one pass of the student, for those who ask for them later."""
        missing = [image for image in images if ('image_features', image) not in self._cache]
        if len(missing) < 2:
            return
        tokens = [self.patch_tokens(image) for image in missing]
        features = self.model.image_encoder.encode(torch.cat(tokens))
        counts = [len(part) for part in tokens]
        for image, cls, patches in zip(
            missing, features.cls.split(counts), features.patches.split(counts), strict=True
        ):
            self._cache['image_features', image] = ImageFeatures(cls, patches)

    def projected_image(self, image: str = 'image') -> Tensor:
        """The global image embedding before its normalization, (B, D)."""
        project = self.model.image_projection
        return self._once('projected_image', image, lambda: project(self.image_features(image)))

    def image_embedding(self, image: str = 'image') -> Tensor:
        """The L2-normalized global image embedding, float32 (B, D)."""
        return self._once('image_embedding', image, lambda: F.normalize(self.projected_image(image).float(), dim=-1))

    def tokens(self) -> Tensor:
        """Token ids of the captions, (B, L)."""
        return self._get('tokens')

    def text_embedding(self) -> Tensor:
        """The L2-normalized caption embedding, float32 (B, D)."""
        return self._once('text_embedding', 'tokens', lambda: self.model.encode_text(self.tokens()))

    def teacher_features(self, image: str = 'image') -> ImageFeatures:
        """The EMA teacher's features of the full image, without gradient."""
        teacher = self.model.teacher.module
        with torch.no_grad():
            return self._once('teacher_features', image, lambda: teacher.features(self.images(image)))

    def teacher_projected_image(self, image: str = 'image') -> Tensor:
        """The EMA teacher's global image embedding before its normalization, without gradient, (B, D)."""
        project = self.model.teacher_projection
        return self._once('teacher_projected_image', image, lambda: project(self.teacher_features(image)))

    def labels(self) -> Tensor:
        """Class of every image, int64 (B,); negative for an image-text pair, which is a class of its own."""
        return self._get('label')

    def noise(self, count: int, stream: int) -> Tensor:
        """Uniform noise (B, count) that depends on nothing but each sample's seed and the stream's number."""
        return sample_noise(self._get('seed'), count, stream)
