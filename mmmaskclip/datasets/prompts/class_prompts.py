"""Class names and templates from a config: a prompt file, a file of names, or lists."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mmmaskclip.datasets.prompts.prompt_files import as_classes, check_templates, load_prompts
from mmmaskclip.datasets.text_files import read_lines


class ClassPrompts:
    """Class names and templates from a config.

    Args:
        classes: Name or path of a prompt file, path of a ``.txt`` file with one name per line, or for each class a name
            or a list of synonyms.
        templates: Name or path of a prompt file, or a list of templates. Defaults to None: the templates of the prompt
            file that ``classes`` names.

    Attributes:
        classes: The synonyms of each class.
        templates: Sentences with one ``{}``.

    Raises:
        FileNotFoundError: If a named file does not exist.
        ValueError: If there are no classes or no templates, or one of them is malformed.
    """

    def __init__(self, classes: str | Sequence[str | Sequence[str]], templates: str | Sequence[str] | None) -> None:
        if templates is None:
            if not isinstance(classes, str) or classes.endswith('.txt'):
                raise ValueError("templates are missing: give a list of them or a prompt file, e.g. 'imagenet_7'")
            templates = classes
        self.classes = _read_classes(classes) if isinstance(classes, str) else as_classes(classes)
        self.templates = load_prompts(templates).templates if isinstance(templates, str) else tuple(templates)
        for kind, values, given in (('classes', self.classes, classes), ('templates', self.templates, templates)):
            if not values:
                what = f'the prompt file {given!r} has no {kind}' if isinstance(given, str) else f'{kind} are empty'
                raise ValueError(f'{what}; name a prompt file or give a list for `{kind}`')
        check_templates(self.templates)

    def check_order(self, names: Sequence[str], where: str) -> None:
        """Compare the classes with those of a data set, whose labels are indices into its list of names.

        Data sets often have other names for the same classes. So only a name at another index is an error.

        Args:
            names: Names of the data set's classes, in the order of its labels.
            where: The owner of these prompts, for messages.

        Raises:
            ValueError: If the numbers of classes differ, or a name has another index.
        """
        own, named = [synonyms[0] for synonyms in self.classes], [str(name) for name in names]
        if len(named) != len(own):
            raise ValueError(
                f'the data set has {len(named)} classes ({", ".join(named[:3])}, ...), {where} has {len(own)} '
                f'({", ".join(own[:3])}, ...): give both the same class list'
            )
        # Two classes may share a name, such as ImageNet's crane. So a name at another index is an error only if the
        # class at its own index has another name, too.
        differ = [index for index, name in enumerate(named) if name not in self.classes[index]]
        elsewhere = {own[index] for index in differ}
        for index in differ:
            if named[index] in elsewhere:
                raise ValueError(
                    f'class {index} is {named[index]!r} in the data set and {own[index]!r} in {where}: give both their '
                    'classes in the same order'
                )


@runtime_checkable
class NamesClasses(Protocol):
    """A part of a model that tells classes apart by their names."""

    prompts: ClassPrompts


def _read_classes(name: str) -> tuple[tuple[str, ...], ...]:
    if name.endswith('.txt'):
        return as_classes([line.strip() for line in read_lines(name)], name)
    return load_prompts(name).classes
