"""The models of the page, one or two: features of photos and texts, each computed once."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.demo.photos import Photo, Refused
from mmmaskclip.demo.settings import Settings

# 64 x 64: attention and the table of likeness grow with the square.
MOST_PATCHES = 4096
_KEPT_FEATURES, _KEPT_TEXTS = 12, 1000


class SeenModel:
    """A model under its name. Browsers ask from several threads; the model answers one at a time.

    Args:
        name: Name of the model on the page.
        inferencer: The model.
    """

    def __init__(self, name: str, inferencer: ImageTextInferencer) -> None:
        self.name, self.inferencer = name, inferencer
        self._lock = threading.RLock()
        self._features: OrderedDict[tuple, np.ndarray] = OrderedDict()
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()
        self._fingerprint: str | None = None

    def features(self, photo: Photo, settings: Settings) -> np.ndarray:
        """One vector per patch, float32 (D, h, w), see :meth:`ImageTextInferencer.dense_features`.

        Raises:
            Refused: If the model would see too many patches, or gives no vector per patch.
        """
        model = self.inferencer
        size = settings.size or min(model.image_size)
        patches = round(max(photo.image.size) / min(photo.image.size) * (size / model.patch_size) ** 2)
        if patches > MOST_PATCHES:
            raise Refused(
                f'At {size} pixels {self.name} would look at {patches:,} patches, more than {MOST_PATCHES:,}: choose a '
                'lower resolution.'
            )

        def compute() -> np.ndarray:
            try:
                found = model.dense_features(photo.image, settings.size, settings.mode, settings.read_out)
            except (AttributeError, NotImplementedError, ValueError) as error:
                raise Refused(f'{self.name} gives no vectors of patches this way: {error}') from error
            return torch.as_tensor(found).float().cpu().numpy()

        key = (photo.key, settings.read_out, settings.size, settings.mode)
        return self._cached(self._features, key, compute, _KEPT_FEATURES)

    def embed_words(self, words: Sequence[str]) -> np.ndarray:
        """Embeddings of words, float32 (T, D), L2-normalized."""
        return np.stack(
            [self._cached(self._texts, word, partial(self._embed_word, word), _KEPT_TEXTS) for word in words]
        )

    def maps(self, photo: Photo, words: Sequence[str], settings: Settings) -> np.ndarray:
        """Cosine similarity of every patch with every word, float32 (T, h, w)."""
        return np.einsum('dhw,td->thw', self.features(photo, settings), self.embed_words(words))

    def fingerprint(self) -> str:
        """Hash of all weights, which tells the indexes of different models apart."""
        with self._lock:
            if self._fingerprint is None:
                digest = hashlib.blake2b(digest_size=12)
                for name, value in sorted(self.inferencer.model.state_dict().items()):
                    digest.update(name.encode())
                    digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
                self._fingerprint = digest.hexdigest()
            return self._fingerprint

    def _embed_word(self, word: str) -> np.ndarray:
        return torch.as_tensor(self.inferencer.embed_texts([word], for_patches=True)[0]).float().cpu().numpy()

    def _cached(self, cache: OrderedDict, key: Any, compute: Callable[[], np.ndarray], most: int) -> np.ndarray:
        with self._lock:
            if key not in cache:
                cache[key] = compute()
                while len(cache) > most:
                    cache.popitem(last=False)
            cache.move_to_end(key)
            return cache[key]
