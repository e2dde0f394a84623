"""How many CPUs a process of a config needs: its data workers, and two for the training thread and the collectives.

Called by the Slurm scripts: ``python -m mmmaskclip.cli.cpus CONFIG [--cfg-options ...]``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from mmmaskclip.cli.config import add_config_arguments, read_config


def cpus_per_process(cfg: Any) -> int:
    """Give the most workers of any data loader of a config, plus two."""
    return 2 + max([0, *_workers(cfg)])


def _workers(node: Any) -> list[int]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ()
    own = [node['num_workers']] if isinstance(node, dict) and isinstance(node.get('num_workers'), int) else []
    return own + [count for value in values for count in _workers(value)]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the number. Mistakes in the config are not reported here: the run itself reports them."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    add_config_arguments(parser)
    args, _ = parser.parse_known_args(argv)
    cfg = read_config(args.config)
    cfg.merge_from_dict(args.cfg_options)
    print(cpus_per_process(cfg._cfg_dict))


if __name__ == '__main__':
    main()
