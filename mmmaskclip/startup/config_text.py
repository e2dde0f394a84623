"""The text of a config, as logs, work directories and checkpoints have it."""

import functools
from typing import Any


@functools.cache
def format_configs_once() -> None:
    """Let yapf format each text once in this process, not at each of mmengine's nine or more requests a run.

    A request takes a tenth of a second for a pretraining config, two seconds for a suite of 26 zero-shot sets, and a
    save waits for one. mmengine's own switch, ``format_python_code=False``, is lost on the way to the config.
    """
    from yapf.yapflib import yapf_api

    format_code = yapf_api.FormatCode
    texts: dict[tuple[str, str], Any] = {}

    @functools.wraps(format_code)
    def format_once(text: str, **options: Any) -> Any:
        key = text, repr(options)
        if key not in texts:
            texts[key] = format_code(text, **options)
        return texts[key]

    yapf_api.FormatCode = format_once
