"""Configs as the command line gives them: a path and options, with errors that name what was probably meant."""

from __future__ import annotations

import argparse
import difflib
import os.path as osp
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, DictAction

# Keys of a Runner that a config may leave out and --cfg-options may add.
_RUNNER_KEYS = {
    'activation_checkpointing', 'auto_scale_lr', 'custom_hooks', 'custom_imports', 'default_hooks', 'env_cfg',
    'experiment_name', 'find_unused_parameters', 'load_from', 'log_level', 'log_processor', 'model_wrapper_cfg',
    'param_scheduler', 'randomness', 'resume', 'sync_bn', 'visualizer', 'work_dir',
}  # fmt: skip


class _Options(DictAction):
    """``KEY=VALUE``; mmengine unpacks what has no equals sign, with an error that names nothing."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:  # type: ignore[no-untyped-def]
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} {value}: expected KEY=VALUE, without blanks around "=".')
        super().__call__(parser, namespace, values, option_string)


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tools share: config, work dir, options and launcher."""
    parser.add_argument('config', help='path of the config')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints [work_dirs/FOLDER/NAME of the config]')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=_Options,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, e.g. train_dataloader.batch_size=64 model.a.b="[1,2]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how the processes were started [none]'
    )
    # torchrun sets the environment variable; the older launcher passes this argument instead.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of ``args`` and apply its options.

    Args:
        args: Parsed arguments of :func:`add_config_arguments`.

    Returns:
        The config, with ``launcher`` and ``work_dir`` set.

    Raises:
        FileNotFoundError: If there is no such config, or none of those it inherits; names similar ones.
        ConfigUnreadable: If its text, or that of a config it inherits, is no valid config; names the file.
        KeyError: If an option sets a key that nothing reads; names the nearest.
        ConfigMistake: If a key, the type of a part or of a value is wrong, see
            :func:`~mmmaskclip.config_check.check.check_config`.
    """
    if not osp.isfile(args.config):
        raise FileNotFoundError(f'There is no config {args.config!r}.{_similar_files(args.config)}')
    # yapf, which would format its text for logs and checkpoints, takes seconds each time, for some configs minutes.
    try:
        cfg = Config.fromfile(args.config, format_python_code=False)
    except FileNotFoundError as error:
        missing = osp.normpath(error.filename or args.config)
        raise FileNotFoundError(f'{args.config}: there is no {missing!r}.{_similar_files(missing)}') from error
    except Exception as error:  # whatever its code raises
        raise ConfigUnreadable(f'{_guilty(args.config)}: {type(error).__name__}: {error}') from error
    for key in args.cfg_options:
        _check_option(cfg, key)
    cfg.merge_from_dict(args.cfg_options)
    from mmmaskclip.config_check.check import check_config  # torch and the parts' packages, which --help does not need

    check_config(cfg)
    cfg.launcher = args.launcher
    # With its folder, because methods name their configs alike: clip/vitb16_x.py, maskclip/vitb16_x.py.
    path = Path(args.config).resolve()
    default = cfg.get('work_dir') or osp.join('work_dirs', path.parent.name, path.stem)
    cfg.work_dir = args.work_dir or default
    return cfg


class ConfigUnreadable(ValueError):
    """A config whose text cannot be executed."""


def _guilty(path: str) -> str:
    """Find which of a config and those it inherits is not Python; the config itself where all are."""
    waiting = [path]
    for file in waiting:
        try:
            compile(Path(file).read_text(), file, 'exec')
            bases = Config._get_base_files(file)
        except Exception as error:
            line = f', line {error.lineno}' if isinstance(error, SyntaxError) else ''
            return f'{file}{line}'
        waiting += [osp.normpath(osp.join(osp.dirname(file), base)) for base in bases if '::' not in base]
    return path


def _check_option(cfg: Config, option: str) -> None:
    """Refuse an option whose value nothing would read, which mmengine merges without a word."""
    node: object = cfg._cfg_dict
    walked: list[str] = []
    *parents, leaf = option.split('.')
    for key in parents:
        if isinstance(node, (list, tuple)) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, dict) and key in node:
            node = node[key]
        elif not walked and key in _RUNNER_KEYS:
            return
        else:
            raise KeyError(_unknown_key(option, key, node, walked, cfg))
        walked.append(key)
    if isinstance(node, dict):
        # An argument the config leaves at its default may be set, so only the top level and near misses are refused.
        known = leaf in node or (not walked and leaf in _RUNNER_KEYS)
        wrong = not known and (not walked or difflib.get_close_matches(leaf, node, n=1, cutoff=0.85))
    else:
        wrong = not (isinstance(node, (list, tuple)) and leaf.isdigit() and int(leaf) < len(node))
    if wrong:
        raise KeyError(_unknown_key(option, leaf, node, walked, cfg))


def _unknown_key(option: str, key: str, node: object, walked: list[str], cfg: Config) -> str:
    where = '.'.join(walked) or 'the config'
    if not isinstance(node, (dict, list, tuple)):
        return f'--cfg-options {option}: {where} is {node!r}, which has no keys. Set it itself.'
    names = [*node] if isinstance(node, dict) else [str(index) for index in range(len(node))]
    if not walked:
        names = list(dict.fromkeys([*names, *_RUNNER_KEYS]))
        # What is meant by lr or optimizer.lr alone stands deeper.
        near = [path for path in _paths(cfg._cfg_dict) if f'.{path}'.endswith(f'.{option}')][:3]
    else:
        near = []
    near = near or difflib.get_close_matches(key, map(str, names), n=3, cutoff=0.5)
    hint = f' Did you mean {" or ".join(near)}?' if near else f' There are: {", ".join(map(str, names))}.'
    return f'--cfg-options {option}: there is no {key!r} in {where}.{hint}'


def _paths(node: object, path: str = '') -> Iterator[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        here = f'{path}.{key}' if path else str(key)
        yield here
        yield from _paths(value, here)


def _similar_files(path: str) -> str:
    folder = Path(path).parent
    while not folder.is_dir():
        folder = folder.parent
    # From the last existing folder of the path, and from configs/ for a name without its folder.
    found = [*folder.glob('*.py'), *folder.glob('*/*.py'), *Path('configs').rglob('*.py')]
    by_text = {str(file): file for file in found}
    near = difflib.get_close_matches(path, by_text, n=3, cutoff=0.5)
    by_name = [
        text
        for text, file in by_text.items()
        if difflib.SequenceMatcher(None, file.name, Path(path).name).ratio() > 0.8
    ]
    near = list(dict.fromkeys([*near, *by_name]))[:3]
    return f' Did you mean {" or ".join(near)}?' if near else ''
