"""Captioned scenes generated from a seed: coloured shapes on textured backgrounds.

With scenes every command of the README runs without a download. Scenes also make local semantics measurable: a caption
mentions only some of the objects, while masks and boxes cover all of them. This module samples and draws scenes;
``captions.py`` writes captions, and ``writer.py`` writes shards, folders and json.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ('circle', 'square', 'triangle', 'star', 'ring')
COLOURS = {
    'red': (214, 39, 40),
    'green': (44, 160, 44),
    'blue': (31, 70, 200),
    'yellow': (240, 215, 30),
    'purple': (140, 60, 170),
    'orange': (250, 130, 20),
    'cyan': (40, 205, 220),
    'pink': (255, 140, 190),
}
CLASSES = tuple(f'{colour} {shape}' for colour in COLOURS for shape in SHAPES)
"""The 40 classes; ``'red circle'`` is 0. Labels of images and pixels of masks are indices into this tuple."""
BACKGROUNDS = ('plain', 'gradient', 'striped', 'checkered', 'noisy')
IGNORE_INDEX = 255
"""Value of background pixels in a mask. MaskCLIP's segmentation protocol (v1, Sec. 4) ignores the background."""

# Shapes are drawn this many times larger and averaged down: edges become smooth, as in a photograph.
_SUPERSAMPLING = 4
_RING_HOLE = 0.55
# Just over 1, so that no two objects touch and every mask is a complete shape.
_GAP = 1.05


@dataclass(frozen=True)
class SceneObject:
    """One shape of a scene.

    Attributes:
        shape: One of ``SHAPES``.
        colour: A key of ``COLOURS``.
        x: Centre from the left, as a fraction of the image's width.
        y: Centre from the top, as a fraction of the image's height.
        radius: Radius of the circumscribed circle, as a fraction of the image's width.
        angle: Rotation in radians.
    """

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    angle: float

    @property
    def name(self) -> str:
        """The class name, e.g. ``'red circle'``."""
        return f'{self.colour} {self.shape}'

    @property
    def label(self) -> int:
        """The class's index in ``CLASSES``."""
        return CLASSES.index(self.name)


@dataclass(frozen=True)
class Scene:
    """Content of one image, before drawing.

    Attributes:
        objects: The shapes; no two overlap.
        background: One of ``BACKGROUNDS``.
        texture_seed: Seed of the background's colours, the objects' shades and the noise.
    """

    objects: tuple[SceneObject, ...]
    background: str
    texture_seed: int


def sample_scene(seed: str, num_objects: tuple[int, int] = (1, 3), label: int | None = None) -> Scene:
    """Samples a scene from a seed; the same seed always gives the same scene.

    Args:
        seed: Any string, e.g. ``'0/train/17'``. It seeds Python's generator: Python guarantees that the stream does
            not change between versions, ``numpy.random.Generator`` does not.
        num_objects: Fewest and most objects.
        label: Class of the first object. None: random.

    Returns:
        The scene. An object without a free place is left out; at least one object remains.
    """
    random = Random(seed)
    count = random.randint(*num_objects)
    objects: list[SceneObject] = []
    for index in range(count):
        name = CLASSES[label] if label is not None and index == 0 else random.choice(CLASSES)
        colour, shape = name.split()
        placed = _place(random, colour, shape, objects, count)
        if placed is not None:
            objects.append(placed)
    return Scene(tuple(objects), random.choice(BACKGROUNDS), random.getrandbits(32))


def _place(random: Random, colour: str, shape: str, others: list[SceneObject], count: int) -> SceneObject | None:
    largest = 0.38 if count == 1 else 0.28 if count == 2 else 0.23
    for _ in range(50):
        radius = random.uniform(0.15, largest)
        x, y = random.uniform(radius, 1 - radius), random.uniform(radius, 1 - radius)
        angle = random.uniform(-0.35, 0.35)
        gaps = (math.hypot(x - o.x, y - o.y) / (radius + o.radius) for o in others)
        if all(gap > _GAP for gap in gaps):
            return SceneObject(shape, colour, x, y, radius, angle)
    return None


def outline(thing: SceneObject, size: int) -> list[tuple[float, float]]:
    """The polygon around an object.

    Args:
        thing: The object.
        size: Side of the image in pixels.

    Returns:
        Corner points (x, y) in pixels. The outline of a ring leaves out its hole.
    """
    corners = {
        'circle': [(1.0, i / 24) for i in range(24)],
        'ring': [(1.0, i / 24) for i in range(24)],
        'square': [(1.0, i / 4 + 1 / 8) for i in range(4)],
        'triangle': [(1.0, i / 3 - 1 / 4) for i in range(3)],
        'star': [(1.0 if i % 2 == 0 else 0.42, i / 10 - 1 / 4) for i in range(10)],
    }[thing.shape]
    points = []
    for radius, turn in corners:
        angle = 2 * math.pi * turn + thing.angle
        points.append(
            (
                size * (thing.x + thing.radius * radius * math.cos(angle)),
                size * (thing.y + thing.radius * radius * math.sin(angle)),
            )
        )
    return points


def object_mask(thing: SceneObject, size: int) -> np.ndarray:
    """Mask of the pixels that an object covers by at least half.

    Args:
        thing: The object.
        size: Side of the image in pixels.

    Returns:
        Bool array (size, size).
    """
    return object_cover(thing, size) >= 0.5


def object_cover(thing: SceneObject, size: int) -> np.ndarray:
    """Fraction of each pixel (size, size) that an object covers, float32."""
    fine = size * _SUPERSAMPLING
    canvas = Image.new('L', (fine, fine))
    draw = ImageDraw.Draw(canvas)
    # PIL measures from the centre of a pixel, an outline from its corner.
    draw.polygon([(x - 0.5, y - 0.5) for x, y in outline(thing, fine)], fill=255)
    if thing.shape == 'ring':
        hole, x, y = (value * fine for value in (thing.radius * _RING_HOLE, thing.x, thing.y))
        draw.ellipse((x - hole, y - hole, x + hole, y + hole), fill=0)
    return np.asarray(canvas.reduce(_SUPERSAMPLING), dtype=np.float32) / 255


def draw_image(scene: Scene, size: int) -> Image.Image:
    """Draw a scene.

    Args:
        scene: What to draw.
        size: Side of the image in pixels.

    Returns:
        RGB image (size, size).
    """
    pixels = draw_background(scene, size)
    # Every object has its own shade: a colour is a range, not one value that a model could look up.
    random = Random(scene.texture_seed)
    for thing in scene.objects:
        cover = object_cover(thing, size)[..., None]
        shade = np.array([channel + random.uniform(-22, 22) for channel in COLOURS[thing.colour]], dtype=np.float32)
        pixels = pixels * (1 - cover) + shade * cover
    noise = np.random.RandomState(scene.texture_seed).normal(0, 4, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8))


def draw_background(scene: Scene, size: int) -> np.ndarray:
    """The background of a scene, float32 (size, size, 3), 0 to 255."""
    # numpy has frozen the stream of RandomState, so files stay the same across versions.
    random = np.random.RandomState(scene.texture_seed ^ 0x5CE7E5)
    # Backgrounds are nearly grey, so that an object's colour always stands out.
    light, dark = (random.uniform(low, high) + random.uniform(-14, 14, 3) for low, high in ((120, 235), (25, 120)))
    rows, columns = np.mgrid[0:size, 0:size] / size
    direction = random.uniform(0, math.pi)
    along = columns * math.cos(direction) + rows * math.sin(direction)
    weight = {
        'plain': lambda: np.full((size, size), random.randint(0, 2), dtype=np.float64),
        'gradient': lambda: (along - along.min()) / np.ptp(along),
        'striped': lambda: np.floor(along * random.randint(6, 12)) % 2,
        'checkered': lambda: (np.floor(rows * 6) + np.floor(columns * 6)) % 2,
        'noisy': lambda: random.uniform(0, 1, (size, size)),
    }[scene.background]()
    return (light * weight[..., None] + dark * (1 - weight[..., None])).astype(np.float32)


def draw_mask(objects: Sequence[SceneObject], size: int) -> np.ndarray:
    """Segmentation mask of a scene.

    Args:
        objects: The scene's objects.
        size: Side of the image in pixels.

    Returns:
        uint8 array (size, size): class index in ``CLASSES``, ``IGNORE_INDEX`` on the background.
    """
    mask = np.full((size, size), IGNORE_INDEX, dtype=np.uint8)
    for thing in objects:
        mask[object_mask(thing, size)] = thing.label
    return mask
