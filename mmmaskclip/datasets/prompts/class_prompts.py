"""Class names and templates from a config: a prompt file, a file of names, or lists."""

from collections.abc import Sequence

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


def _read_classes(name: str) -> tuple[tuple[str, ...], ...]:
    if name.endswith('.txt'):
        return as_classes([line.strip() for line in read_lines(name)], name)
    return load_prompts(name).classes
