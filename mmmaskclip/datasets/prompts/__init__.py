"""Class names and prompt templates of zero-shot protocols, as data files in one format.

A file ``NAME.json`` holds ``source`` (where the facts come from), ``templates`` (each with one ``{}``) and ``classes``
(each a name, or a list of synonyms); either of the last two can be left out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PromptSet:
    """What one file holds.

    Attributes:
        name: The file's name without ``.json``.
        source: Where the names and templates come from.
        templates: Sentences with one ``{}``; empty where the file has none.
        classes: For each class its synonyms, mostly one; empty where the file has none.
    """

    name: str
    source: str
    templates: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]


def load_prompts(name: str | Path) -> PromptSet:
    """Reads a prompt file.

    Args:
        name: Name of a file of this package (``'imagenet_7'``), or the path of a ``.json`` file.

    Returns:
        What it holds.

    Raises:
        FileNotFoundError: If there is no such file; the message lists those that there are.
        ValueError: If a template has not exactly one ``{}``, or a class has no name.
    """
    path = Path(name) if str(name).endswith('.json') else _FOLDER / f'{name}.json'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in _FOLDER.glob('*.json')))
        raise FileNotFoundError(f'no prompt file {path}; give the path of a .json file or one of: {known}')
    content = json.loads(path.read_text(encoding='utf-8'))
    templates = tuple(content.get('templates', ()))
    for template in templates:
        if template.count('{}') != 1:
            raise ValueError(f'{path}: template {template!r} needs exactly one {{}} where the class name goes')
    return PromptSet(path.stem, content['source'], templates, as_classes(content.get('classes', ()), str(path)))


def as_classes(classes: Sequence[str | Sequence[str]], where: str = 'classes') -> tuple[tuple[str, ...], ...]:
    """Brings class names to one form, a tuple of synonyms for each class.

    Args:
        classes: For each class a name or a list of synonyms.
        where: What to call the list in an error.

    Returns:
        For each class its synonyms.

    Raises:
        ValueError: If a class has no name or an empty one.
    """
    result = tuple((entry,) if isinstance(entry, str) else tuple(entry) for entry in classes)
    for index, names in enumerate(result):
        if not names or not all(name.strip() for name in names):
            raise ValueError(f'{where}: class {index} has no name or an empty one: {list(names)}')
    return result
