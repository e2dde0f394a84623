"""Finds and reads the config that a command line names, applies the options, and checks the result for mistakes."""

from __future__ import annotations

import argparse
import difflib
import os.path as osp
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmaskclip.cli.options import Options, apply_options
from mmmaskclip.cli.shipped import find_config, register_shipped_configs, shipped
from mmmaskclip.config_check import ConfigMistake
from mmmaskclip.startup.config_text import format_configs_once
from mmmaskclip.startup.dependencies import missing_toolbox
from mmmaskclip.utils.exit_codes import CANNOT_START, CannotStart
from mmmaskclip.utils.nearest import meant

if TYPE_CHECKING:
    from mmengine.config import Config

_ENDINGS = ('.py', '.json', '.yml', '.yaml')


def run_command(main: Callable[[], Any]) -> None:
    """Run a command. Print an error that the user can mend as one sentence, without a traceback.

    Raises:
        SystemExit: With 2 after a mistake in the config or on the command line, with 69 if a machine cannot be used.
    """
    try:
        main()
    except (ConfigMistake, CannotStart) as problem:
        print(f'error: {problem}', file=sys.stderr)
        raise SystemExit(2 if isinstance(problem, ConfigMistake) else CANNOT_START) from None


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that all tools share: config, work dir, options and launcher."""
    parser.add_argument('config', help='path of the config, or its path below configs/, in a clone or not')
    parser.add_argument('--work-dir', help='folder for logs and checkpoints [work_dirs/FOLDER/NAME of the config]')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=Options,
        default={},
        metavar='KEY=VALUE',
        help='settings that replace those of the config, e.g. train_dataloader.batch_size=64 model.a.b="[1,2]"',
    )
    parser.add_argument(
        '--launcher', choices=['none', 'pytorch', 'slurm'], default='none', help='how the processes were started [none]'
    )
    parser.add_argument(
        '--device',
        choices=['cuda', 'cpu'],
        help='device [a GPU where there is one; a GPU that torch cannot use is an error, unless the CPU is asked for]',
    )
    # torchrun sets the environment variable; the older launcher passes this argument instead.
    parser.add_argument('--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS)


def load_config(args: argparse.Namespace) -> Config:
    """Read the config of ``args`` and apply its options.

    Args:
        args: Parsed arguments of :func:`add_config_arguments`.

    Returns:
        The config, with ``launcher``, ``device`` and ``work_dir`` set.

    Raises:
        ConfigMistake: If the config, or one that it inherits, does not exist or is no valid config; if an option sets a
            key that nothing reads; or if :func:`~mmmaskclip.config_check.check.check_config` refuses a key, the type of
            a part or a value. The message names the nearest valid name.
    """
    # A local import: mmengine and the parts' packages take seconds, for which --help should not wait.
    from mmmaskclip.config_check.check import check_config

    format_configs_once()
    cfg = read_config(args.config)
    apply_options(cfg, args.cfg_options)
    leave_out_without_loader(cfg)
    check_config(cfg)
    cfg.launcher, cfg.device = args.launcher, args.device
    # The path includes the config's folder, because methods name configs alike: clip/vitb16_x.py, maskclip/vitb16_x.py.
    file = Path(find_config(args.config)).resolve()
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join('work_dirs', file.parent.name, file.stem)
    return cfg


def leave_out_without_loader(cfg: Config) -> None:
    """Remove evaluator, loop and interval of each data loader that is None, so that one option turns validation off.

    Args:
        cfg: A config, changed in place. If the config does not name the loader at all, nothing is removed, and the
            config check reports the missing section.
    """
    for mode in ('val', 'test'):
        if cfg.get(f'{mode}_dataloader', 'unnamed') is None:
            cfg[f'{mode}_evaluator'] = cfg[f'{mode}_cfg'] = None
            if mode == 'val' and cfg.get('train_cfg'):
                cfg.train_cfg.pop('val_interval_iters', None)


def read_config(name: str) -> Config:
    """Read a config, by its path or its shipped name, without checking it.

    Raises:
        ConfigMistake: If the config, or one that it inherits, does not exist or cannot be read.
    """
    from mmengine.config import Config

    path = find_config(name)
    if not osp.isfile(path):
        raise ConfigMistake(f'There is no config {path!r}.{_similar_files(path)}')
    if not path.endswith(_ENDINGS):
        raise ConfigMistake(
            f'{path!r} is no config (they end in {", ".join(_ENDINGS)}). The checkpoint comes after it.'
        )
    register_shipped_configs()
    try:
        return Config.fromfile(path)
    except FileNotFoundError as error:
        missing = osp.normpath(error.filename or path)
        raise ConfigMistake(f'{path}: there is no {missing!r}.{_similar_files(missing)}') from error
    except Exception as error:  # whatever its code raises
        # mmengine's own message about a failed import in custom_imports does not name the package that is missing.
        toolbox = missing_toolbox(_not_imported(error))
        raise ConfigMistake(toolbox or f'{_guilty(path)}: {type(error).__name__}: {error}') from error


def _not_imported(error: BaseException | None) -> set[str]:
    """The packages whose import failed, among an error and those before it."""
    names = set()
    while error is not None:
        if isinstance(error, ModuleNotFoundError):
            names.add(str(error.name).partition('.')[0])
        error = error.__cause__ or error.__context__
    return names


def _guilty(path: str) -> str:
    """Find the file that is not valid Python: a config that this one inherits, or else the config itself."""
    from mmengine.config import Config

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


def _similar_files(path: str) -> str:
    folder = Path(path).parent
    while not folder.is_dir():
        folder = folder.parent
    # Near names come from the last existing folder of the path, and from configs/ if the name has no folder.
    texts = [str(file) for file in (*folder.glob('*.py'), *folder.glob('*/*.py'), *Path('configs').rglob('*.py'))]
    if not Path('configs').is_dir():
        texts += [str(file.relative_to(shipped('configs'))) for file in shipped('configs').glob('**/*.py')]
    near = difflib.get_close_matches(path, texts, n=3, cutoff=0.5)
    name = Path(path).name
    near += [text for text in texts if difflib.SequenceMatcher(None, Path(text).name, name).ratio() > 0.8]
    return meant(list(dict.fromkeys(near))[:3])
