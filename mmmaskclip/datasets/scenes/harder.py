"""Harder scenes: more and smaller objects, textures, and distractors that no caption and no mask names.

The classes are those of :mod:`~mmmaskclip.datasets.scenes.generator`, so that prompts and metrics are the same. A
caption names at most three of up to eight objects.
"""

import math
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from mmmaskclip.datasets.scenes.generator import (
    BACKGROUNDS,
    CLASSES,
    COLOURS,
    SHAPES,
    Scene,
    SceneObject,
    draw_background,
    object_cover,
)

TEXTURES = ('plain', 'striped', 'dotted', 'checkered')
_GAP = 1.05
# Nearly grey, as backgrounds are: no word of the classes fits a distractor.
_GREYS = ((60, 60, 66), (110, 104, 100), (150, 152, 158), (196, 192, 188))


@dataclass(frozen=True)
class HardScene(Scene):
    """A scene with textures and distractors.

    Attributes:
        textures: One of :data:`TEXTURES` for each object.
        distractors: Grey shapes; their ``colour`` is the index of a grey.
        lines: Ends (x0, y0, x1, y1) of thin grey lines, as fractions of the image.
    """

    textures: tuple[str, ...] = ()
    distractors: tuple[SceneObject, ...] = ()
    lines: tuple[tuple[float, float, float, float], ...] = ()


def sample_hard_scene(seed: str, num_objects: tuple[int, int] = (3, 8), label: int | None = None) -> HardScene:
    """Samples a scene from a seed; the same seed always gives the same scene.

    Args:
        seed: Any string, see :func:`~mmmaskclip.datasets.scenes.generator.sample_scene`.
        num_objects: Fewest and most objects.
        label: Class of the first object. None: random.

    Returns:
        The scene. An object without a free place is left out; at least one object remains.
    """
    random = Random(f'hard/{seed}')
    count = random.randint(*num_objects)
    things: list[SceneObject] = []
    for index in range(count):
        name = CLASSES[label] if label is not None and index == 0 else random.choice(CLASSES)
        colour, shape = name.split()
        things += _place(random, colour, shape, things, count)
    distractors: list[SceneObject] = []
    for _ in range(random.randint(0, 3)):
        grey, shape = str(random.randrange(len(_GREYS))), random.choice(SHAPES)
        distractors += _place(random, grey, shape, [*things, *distractors], 8)
    return HardScene(
        objects=tuple(things),
        background=random.choice(BACKGROUNDS),
        texture_seed=random.getrandbits(32),
        textures=tuple(random.choice(TEXTURES) for _ in things),
        distractors=tuple(distractors),
        lines=tuple(
            (random.random(), random.random(), random.random(), random.random()) for _ in range(random.randint(0, 3))
        ),
    )


def draw_hard_image(scene: HardScene, size: int) -> Image.Image:
    """Draw a scene: background, lines, distractors, then the objects.

    Args:
        scene: What to draw.
        size: Side of the image in pixels.

    Returns:
        RGB image (size, size).
    """
    random = Random(scene.texture_seed)
    canvas = Image.fromarray(np.clip(draw_background(scene, size), 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for line in scene.lines:
        draw.line([size * end for end in line], fill=random.choice(_GREYS), width=max(1, size // 64))
    pixels = np.array(canvas, dtype=np.float32)
    for thing in scene.distractors:
        _lay(pixels, thing, np.array(_GREYS[int(thing.colour)], dtype=np.float32), 'plain', random)
    for thing, texture in zip(scene.objects, scene.textures, strict=True):
        shade = np.array([channel + random.uniform(-22, 22) for channel in COLOURS[thing.colour]], dtype=np.float32)
        _lay(pixels, thing, shade, texture, random)
    pixels += np.random.RandomState(scene.texture_seed).normal(0, 5, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _place(random: Random, colour: str, shape: str, others: list[SceneObject], count: int) -> list[SceneObject]:
    """The object at a free place; none if 40 places were taken."""
    largest = 0.36 if count == 1 else 0.34 / math.sqrt(count) + 0.05
    for _ in range(40):
        radius = random.uniform(0.06 if count > 1 else 0.1, largest)
        x, y = random.uniform(radius, 1 - radius), random.uniform(radius, 1 - radius)
        angle = random.uniform(-0.5, 0.5)
        if all(math.hypot(x - o.x, y - o.y) > _GAP * (radius + o.radius) for o in others):
            return [SceneObject(shape, colour, x, y, radius, angle)]
    return []


def _lay(pixels: np.ndarray, thing: SceneObject, shade: np.ndarray, texture: str, random: Random) -> None:
    """Draw an object into pixels (size, size, 3), in the square around it: objects are small, and there are many."""
    size = len(pixels)
    left, top = (max(0, math.floor((place - thing.radius) * size)) for place in (thing.x, thing.y))
    right, bottom = (min(size, math.ceil((place + thing.radius) * size) + 1) for place in (thing.x, thing.y))
    side = max(right - left, bottom - top)
    scale = size / side
    moved = SceneObject(
        thing.shape,
        thing.colour,
        thing.x * scale - left / side,
        thing.y * scale - top / side,
        thing.radius * scale,
        thing.angle,
    )
    cover = object_cover(moved, side)[: bottom - top, : right - left, None]
    rows, columns = np.mgrid[0 : bottom - top, 0 : right - left] / max(2.0, thing.radius * size)
    turn, number = random.uniform(0, math.pi), random.uniform(3.0, 5.0)
    along = number * (columns * math.cos(turn) + rows * math.sin(turn))
    across = number * (rows * math.cos(turn) - columns * math.sin(turn))
    dark = {
        'plain': lambda: np.zeros(rows.shape),
        'striped': lambda: np.floor(along) % 2,
        'dotted': lambda: ((along % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2 < 0.09).astype(float),
        'checkered': lambda: (np.floor(along) + np.floor(across)) % 2,
    }[texture]()
    # The darker shade keeps the hue, so that the colour's word stays true.
    coloured = shade * (1 - 0.35 * dark[..., None])
    area = pixels[top:bottom, left:right]
    area[...] = area * (1 - cover) + coloured * cover
