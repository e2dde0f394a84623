"""Class names and prompt templates of zero-shot protocols, as data files in one format.

A file ``NAME.json`` holds ``source`` (reference for the facts), ``templates`` (each with one ``{}``) and ``classes``
(each a name, or a list of synonyms). A file may leave out ``templates`` or ``classes``. If a library has exactly the
list, the file names the library's list instead: ``"classes": {"mmpretrain": "CIFAR10_CATEGORIES"}`` for a list of
``mmpretrain.datasets.categories``, ``"templates": {"mmseg": "imagenet"}`` for a set of
``mmseg.utils.get_predefined_templates``.

The classes are in the order of the labels in the source. SLIP mostly sorts the names of image folders; a dataset with
another numbering needs its labels mapped.
"""

import runpy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from mmmaskclip.datasets.text_files import read_json

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class PromptSet:
    """Content of one prompt file.

    Attributes:
        name: The file's name without ``.json``.
        source: Reference for the names and templates.
        templates: Sentences with one ``{}``; empty if the file has none.
        classes: The synonyms of each class, mostly one; empty if the file has none.
    """

    name: str
    source: str
    templates: tuple[str, ...]
    classes: tuple[tuple[str, ...], ...]


def load_prompts(name: str | Path) -> PromptSet:
    """Read a prompt file.

    Args:
        name: Name of a file of this package (``'imagenet_7'``), or the path of a ``.json`` file.

    Returns:
        Its content.

    Raises:
        FileNotFoundError: If the file does not exist; the message lists the files of this package.
        ValueError: If a template does not have exactly one ``{}``, a class has no name, or the file names a list that
            the library does not have.
    """
    path = Path(name) if str(name).endswith('.json') else _FOLDER / f'{name}.json'
    if not path.is_file():
        known = ', '.join(sorted(file.stem for file in _FOLDER.glob('*.json')))
        raise FileNotFoundError(f'no prompt file {path}; give the path of a .json file or one of: {known}')
    content = read_json(path)
    templates = tuple(_entries(content.get('templates', ()), str(path)))
    check_templates(templates, str(path))
    classes = as_classes(_entries(content.get('classes', ()), str(path)), str(path))
    return PromptSet(path.stem, content['source'], templates, classes)


def _entries(entries: Sequence | dict[str, str], where: str) -> Sequence:
    """The list of a file, which is written out in the file or belongs to the library that the file names."""
    if not isinstance(entries, dict):
        return entries
    for library, read in (('mmpretrain', _mmpretrain_categories), ('mmseg', _mmseg_templates)):
        name = entries.get(library)
        values = read(name) if name and len(entries) == 1 else None
        if values:
            return values
    raise ValueError(
        f'{where}: {entries} names no list of a library; write the entries out, or name one as '
        '{"mmpretrain": "CIFAR10_CATEGORIES"} (of mmpretrain.datasets.categories) or {"mmseg": "imagenet"} (of '
        'mmseg.utils.get_predefined_templates)'
    )


@lru_cache
def _mmpretrain_lists() -> dict:
    spec = find_spec('mmpretrain')
    assert spec is not None
    assert spec.origin is not None
    # Run this one file, which holds only lists: importing mmpretrain.datasets takes seconds.
    return runpy.run_path(str(Path(spec.origin).parent / 'datasets/categories.py'))


def _mmpretrain_categories(name: str) -> Sequence | None:
    return _mmpretrain_lists().get(name) if name.endswith('_CATEGORIES') else None


def _mmseg_templates(name: str) -> Sequence | None:
    from mmseg.utils import get_predefined_templates  # a local import: most prompt files do not need mmseg

    try:
        return get_predefined_templates(name)
    except ValueError:
        return None


def refuse_string(texts: Sequence, where: str) -> None:
    """Refuse a string in place of a list: Python would iterate over its letters.

    Args:
        texts: The user's argument.
        where: Name of the argument in the error.

    Raises:
        TypeError: If ``texts`` is a string.
    """
    if isinstance(texts, str):
        raise TypeError(f'{where} is the string {texts!r}: give a list, [{texts!r}]')


def check_templates(templates: Sequence[str], where: str = 'templates') -> None:
    """Check that every template has exactly one place for the class name.

    Args:
        templates: Sentences with one ``{}``.
        where: Name of the list in an error.

    Raises:
        TypeError: If ``templates`` is one string.
        ValueError: If a template does not have exactly one ``{}``, or has other braces.
    """
    refuse_string(templates, where)
    for template in templates:
        if template.count('{}') != 1 or set('{}') & set(template.replace('{}', '')):
            raise ValueError(f'{where}: template {template!r} needs exactly one {{}} where the class name goes')


def as_classes(classes: Sequence[str | Sequence[str]], where: str = 'classes') -> tuple[tuple[str, ...], ...]:
    """Bring class names to one form, a tuple of synonyms for each class.

    Args:
        classes: For each class a name or a list of synonyms.
        where: Name of the list in an error.

    Returns:
        The synonyms of each class.

    Raises:
        TypeError: If ``classes`` is one string, or a name is not a string.
        ValueError: If a class has no name or an empty one.
    """
    refuse_string(classes, where)
    for index, entry in enumerate(classes):
        if not isinstance(entry, Sequence) or not all(isinstance(name, str) for name in entry):
            raise TypeError(f'{where}: class {index} is {entry!r}: give a name or a list of synonyms, each a string')
    result = tuple((entry,) if isinstance(entry, str) else tuple(entry) for entry in classes)
    for index, names in enumerate(result):
        if not names or not all(name.strip() for name in names):
            raise ValueError(f'{where}: class {index} has no name or an empty one: {list(names)}')
    return result
