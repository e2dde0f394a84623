"""Docstrings say :class:`~package.Name` where they mean the name: written as code in the API reference."""

import re
from typing import Any

from griffe import Extension, Object


class PlainRoles(Extension):
    """Replace roles by the last part of what they name."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite the docstring of one object."""
        if obj.docstring:
            obj.docstring.value = re.sub(r':\w+:`~?[.]*(?:[\w.]+\.)?([\w()]+)`', r'`\1`', obj.docstring.value)
