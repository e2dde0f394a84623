"""Finds mistakes in a config before anything is built: one table of keys, the signatures of the parts, paths."""


class ConfigMistake(ValueError):
    """Something in a config or on the command line is wrong: its message is all that the user needs, with no traceback.

    It names the key or the option, the value, and what was probably meant.
    """
