"""Finds mistakes in a config before anything is built: one table of keys, and the arguments of what takes them."""

_MOST = 10


class ConfigMistake(ValueError):
    """Something in a config or on the command line is wrong: its message is all that the user needs, with no traceback.

    It names the key or the option, the value, and what was probably meant.
    """


def refuse(problems: list[str]) -> None:
    """Raise a ConfigMistake that lists the problems, one a line; do nothing if there are none."""
    if problems:
        more = [f'... and {len(problems) - _MOST} more'] if len(problems) > _MOST else []
        raise ConfigMistake('the config is wrong, nothing was started:\n  ' + '\n  '.join([*problems[:_MOST], *more]))
