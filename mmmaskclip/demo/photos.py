"""Reads the photos that a person drops on the page; for another file, a sentence names the remedy."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from PIL import Image

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.transforms.decode import DEFAULT_MAX_PIXELS, MOST_PIXELS, decode_image, decode_published

# A model sees a few hundred pixels; the page shows about a thousand.
LONGEST_SIDE = 1600
MOST_BYTES = 100_000_000
_NARROWEST = 1 / 12
# Photos that the page shows in spite of these causes, and its note about them.
_SHOWN = {'animated': 'This is an animation: its first frame is shown.'}
_REFUSED = {
    'empty_file': 'The file is empty: choose another photo.',
    'not_an_image': 'The file is no image: choose a JPEG, PNG, WebP, GIF or BMP file.',
    'truncated_image': 'The image is damaged, perhaps a half download: choose another file.',
}


class Refused(ValueError):
    """The input of a person cannot be used. The message is a sentence for this person, with the remedy."""


@dataclass(frozen=True)
class Photo:
    """A photo as the page shows it and the models see it.

    Attributes:
        key: Hash of the file, by which the page names the photo.
        image: RGB, upright, the longer side at most :data:`LONGEST_SIDE` pixels.
        notes: Sentences about changes of the photo.
    """

    key: str
    image: Image.Image
    notes: tuple[str, ...] = ()


def read_photo(data: bytes) -> Photo:
    """Read the content of a file.

    A phone's picture is turned upright, an animation shows its first frame, large photos are made smaller.

    Args:
        data: The content.

    Raises:
        Refused: If it is no image, damaged, too large, or of a kind whose colours have no fixed meaning.
    """
    if len(data) > MOST_BYTES:
        raise Refused(f'The file has {len(data) / 1e6:,.0f} MB: the most is {MOST_BYTES / 1e6:.0f} MB.')
    notes: list[str] = []
    try:
        # libjpeg decodes a large JPEG at a half, a quarter or an eighth of its size, so that a scan of 100 megapixels
        # does not need the memory of 100 megapixels.
        image = decode_image(data, MOST_PIXELS if data.startswith(b'\xff\xd8') else DEFAULT_MAX_PIXELS, LONGEST_SIDE)
    except BadSample as bad:
        if bad.cause not in _SHOWN:
            raise Refused(_sentence(bad)) from bad
        notes.append(_SHOWN[bad.cause])
        try:
            image, _ = decode_published(data)
        except BadSample as worse:
            raise Refused(_sentence(worse)) from worse
    sides = sorted(image.size)
    if sides[0] < _NARROWEST * sides[1]:
        raise Refused(
            f'The photo is {image.width} x {image.height} pixels, a strip more than 12 times as long as wide: cut out '
            'a part of it.'
        )
    if max(image.size) > LONGEST_SIDE:
        notes.append(f'The photo was made smaller for this page: its longer side has {LONGEST_SIDE} pixels now.')
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return Photo(hashlib.sha256(data).hexdigest()[:16], image, tuple(notes))


def _sentence(bad: BadSample) -> str:
    if bad.cause in _REFUSED:
        return _REFUSED[bad.cause]
    if bad.cause == 'too_large':
        return (
            f'The photo is too large ({bad.detail}): save it with at most {DEFAULT_MAX_PIXELS / 1e6:.0f} megapixels, '
            f'or as a JPEG with at most {MOST_PIXELS / 1e6:.0f}.'
        )
    return f'The photo cannot be shown ({bad.detail}): save it as an RGB image with 8 bit per colour.'


@dataclass
class PhotoStore:
    """The photos that were opened last, for all browsers.

    Args:
        most: How many are kept. Defaults to 24.
    """

    most: int = 24
    _photos: OrderedDict[str, Photo] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, photo: Photo) -> Photo:
        """Keep a photo; drop the least recently used one if there are too many."""
        with self._lock:
            self._photos[photo.key] = photo
            self._photos.move_to_end(photo.key)
            while len(self._photos) > self.most:
                self._photos.popitem(last=False)
        return photo

    def get(self, key: object) -> Photo:
        """The photo of a key.

        Raises:
            Refused: If there is no photo, or it is no longer kept.
        """
        if not key:
            raise Refused('There is no photo yet: drop one on the page, paste one, or choose an example.')
        with self._lock:
            photo = self._photos.get(str(key))
            if photo is None:
                raise Refused('The page no longer keeps this photo, because others came after it: open it again.')
            self._photos.move_to_end(photo.key)
            return photo
