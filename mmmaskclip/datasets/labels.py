"""The class of a labelled sample, as a number or as a name."""

import re
from collections.abc import Sequence

from mmmaskclip.datasets.sampling import BadSample

_NUMBER = re.compile('-?[0-9]+')


class LabelReader:
    """Turns the text of a label into the number of its class.

    Args:
        classes: Synonyms of each class, in the order of the numbers; empty where only numbers are known.
        label_by: ``'name'`` or ``'number'`` (counted from 0). Default: a text that is a class's name is a name, one
            that is a number is a number; where it is both and the two differ, an error.
    """

    def __init__(self, classes: Sequence[Sequence[str]], label_by: str | None = None) -> None:
        if label_by not in (None, 'name', 'number'):
            raise ValueError(f"label_by={label_by!r}: it is 'name', 'number' or None")
        self._by, self._count = label_by, len(classes)
        self._of_name = {name: label for label, names in reversed(list(enumerate(classes))) for name in names}

    def __call__(self, data: bytes) -> int:
        """Read a label.

        Args:
            data: Content of the label's file.

        Returns:
            The number of the class.

        Raises:
            BadSample: ``unknown_label`` where the text is neither a class's number nor its name, ``ambiguous_label``
                where it is the number of one class and the name of another.
        """
        text = data.decode('utf-8-sig', 'replace').strip()
        name = None if self._by == 'number' else self._of_name.get(text)
        number = int(text) if self._by != 'name' and _NUMBER.fullmatch(text) and len(text) < 19 else None
        if self._count and number is not None and not 0 <= number < self._count:
            number = None
        if name is not None and number is not None and name != number:
            raise BadSample(
                'ambiguous_label',
                f"{text!r} is the name of class {name} and the number of another: set label_by to 'name' or 'number'",
            )
        if name is None and number is None:
            known = f'neither a number below {self._count} nor a class' if self._count else 'no number'
            raise BadSample('unknown_label', f'{text!r} is {known}')
        return name if name is not None else number  # type: ignore[return-value]
