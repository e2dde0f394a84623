"""Captions of generated scenes. A caption names only some of the objects, as people's captions of photographs do."""

from random import Random

from mmmaskclip.datasets.scenes.generator import Scene, SceneObject

_ONE = (
    'a {0}',
    'there is a {0}',
    'a picture of a {0}',
    'a {0} in the image',
    'this is a {0} on a {background} background',
    'a {0} {place0}',
    'one {0} {place0}',
)
_TWO = (
    'a {0} and a {1}',
    'a {0} next to a {1}',
    'there is a {0} and also a {1}',
    'a {0} {place0} and a {1} {place1}',
    'a {0} {relation} a {1}',
    'the {0} is {relation} the {1}',
    'a scene with a {0} and a {1}',
)
_THREE = (
    'a {0}, a {1} and a {2}',
    'a {0} with a {1} and a {2}',
    'a {0} {relation} a {1}, and a {2}',
    'there are a {0}, a {1} and a {2}',
)
_TEMPLATES = {1: _ONE, 2: _TWO, 3: _THREE}


def write_captions(scene: Scene, seed: str, num_captions: int = 5) -> list[str]:
    """Write captions of a scene, each about a random subset of at most three of its objects.

    Args:
        scene: What is in the image.
        seed: Any string; the same seed always gives the same captions.
        num_captions: How many to write.

    Returns:
        ``num_captions`` lower-case sentences, all true of the scene. Some name positions in the image ('on the left'),
        relations ('above') or sizes.
    """
    random = Random(f'captions/{seed}')
    return [_write_one(scene, random) for _ in range(num_captions)]


def _write_one(scene: Scene, random: Random) -> str:
    count = random.randint(1, min(3, len(scene.objects)))
    mentioned = random.sample(scene.objects, count)
    template = random.choice(_TEMPLATES[count])
    words = {f'place{index}': _place(thing) for index, thing in enumerate(mentioned)}
    if count > 1:
        words['relation'] = _relation(mentioned[0], mentioned[1])
    # Only a quarter of the names carry a size: captions of photographs rarely mention sizes.
    names = [f'{_size(thing)}{thing.name}' if random.random() < 0.25 else thing.name for thing in mentioned]
    return template.format(*names, background=scene.background, **words).replace('a orange', 'an orange')


def _size(thing: SceneObject) -> str:
    if thing.radius > 0.24:
        return 'large '
    return 'small ' if thing.radius < 0.18 else ''


def _place(thing: SceneObject) -> str:
    across, down = thing.x - 0.5, thing.y - 0.5
    if max(abs(across), abs(down)) < 0.12:
        return 'in the middle'
    if abs(across) > abs(down):
        return 'on the left' if across < 0 else 'on the right'
    return 'at the top' if down < 0 else 'at the bottom'


def _relation(thing: SceneObject, other: SceneObject) -> str:
    across, down = thing.x - other.x, thing.y - other.y
    if abs(across) > abs(down):
        return 'left of' if across < 0 else 'right of'
    return 'above' if down < 0 else 'below'
