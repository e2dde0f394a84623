"""Fuzz: damage data, checkpoints and configs at random. Every case must end in a clear error or a counted skip.

python tools/analysis_tools/fuzz.py --minutes 3 --seed 0

The tool prints the seed of a case that ends in any other exception or takes longer than 20 seconds. ``--only SEED``
repeats that case.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mmmaskclip.analysis.fuzz_data import (
    CLEAR,
    damage,
    fuzz_caption,
    fuzz_image,
    fuzz_list,
    fuzz_names,
    fuzz_shard,
)
from mmmaskclip.checkpoints.files import newest_verified, write_checkpoint
from mmmaskclip.checkpoints.safe_load import read_checkpoint, read_state_dict
from mmmaskclip.cli.config import load_config
from mmmaskclip.cli.paths import check_paths
from mmmaskclip.config_check.keys import RUNNER_KEYS
from mmmaskclip.engine.registration import register_all_modules

_LIMIT = 20


def fuzz_checkpoint(folder: Path, draw: random.Random) -> str:
    """A damaged checkpoint after a good one. Resume must choose the good one; reading the other must end clearly."""
    good = {'state_dict': {'weight': torch.arange(300.0)}, 'message_hub': {'runtime_info': {}}, 'meta': {'iter': 1}}
    first, second = folder / 'iter_1.pth', folder / 'iter_2.pth'
    write_checkpoint(first, good)
    write_checkpoint(second, good)
    before = second.read_bytes()
    second.write_bytes(damage(before, draw))
    same = second.read_bytes() == before
    newest, damaged = newest_verified(str(folder))
    chosen, expected = Path(newest or 'none').name, 'iter_2.pth' if same else 'iter_1.pth'
    assert chosen == expected, f'resume chose {chosen}, not {expected}'
    assert same or [Path(path).name for path, _ in damaged] == ['iter_2.pth'], 'the damaged checkpoint is not named'
    for read in (read_checkpoint, read_state_dict):
        with contextlib.suppress(*CLEAR):
            read(second)
    return 'ok' if same else 'skip'


@cache
def _config() -> str:
    cfg = Config.fromfile(Path(__file__).parents[2] / 'configs/maskclip/vitxs16_scenes_v1.py')
    # Without the config's variables, which nothing reads: a mistake in them is none.
    return repr({key: value for key, value in cfg._cfg_dict.to_dict().items() if key in RUNNER_KEYS})


def fuzz_config(folder: Path, draw: random.Random) -> str:
    """A config with a typical mistake. The check must name every mistake of ``SURE``."""
    top = ast.literal_eval(_config())
    (folder / 'data.tar').touch()
    nodes = [top]
    for node in nodes:
        items = list(node.values() if isinstance(node, dict) else node)
        nodes += [value for value in items if isinstance(value, (dict, list))]
        if isinstance(node, dict) and 'urls' in node:
            node['urls'] = str(folder / 'data.tar')
    parts = [node for node in nodes if isinstance(node, dict) and 'type' in node]
    name, apply = draw.choice(list(MISTAKES.items()))
    text = apply(top, parts, draw) or ''.join(f'{key} = {value!r}\n' for key, value in top.items())
    (folder / 'config.py').write_text(text)
    cfg = load_config(
        argparse.Namespace(
            config=str(folder / 'config.py'), cfg_options={}, launcher='none', work_dir=None, device=None
        )
    )
    check_paths(cfg)
    assert name not in SURE, f'this mistake is not named: {name}'
    return 'ok'


def _misspell(word: str, draw: random.Random) -> str:
    where = draw.randrange(len(word) - 1)
    return draw.choice(
        [
            word[:where] + word[where + 1 :],
            word[:where] + word[where] + word[where:],
            word[:where] + draw.choice('xyz'.replace(word[where], '')) + word[where + 1 :],
        ]
    )


def _key(top: Any, parts: list, draw: random.Random) -> None:
    node = draw.choice([part for part in parts if len(part) > 1])
    key = draw.choice([key for key in node if key != 'type'])
    node[_misspell(key, draw)] = node.pop(key)


def _type(top: Any, parts: list, draw: random.Random) -> None:
    node = draw.choice(parts)
    node['type'] = _misspell(node['type'], draw)


def _loader(top: Any, parts: list, draw: random.Random) -> None:
    key = draw.choice(['batch_size', 'num_workers'])
    top['train_dataloader'][key] = draw.choice([str(top['train_dataloader'][key]), -1, 1.5, (4,), [2]])


def _path(top: Any, parts: list, draw: random.Random) -> None:
    urls = top['train_dataloader']['dataset']['urls']
    draw.choice([top['train_dataloader'], top['val_dataloader']['single']])['dataset']['urls'] = urls + draw.choice(
        ['x', '/train-*.tar', '/{0..9}.tar']
    )


def _section(top: Any, parts: list, draw: random.Random) -> None:
    key = draw.choice(['model', 'train_dataloader', 'train_cfg', 'optim_wrapper', 'val_cfg', 'test_evaluator'])
    top[key] = draw.choice([None, [top[key]], (top[key],), 'text', 3])


def _number(top: Any, parts: list, draw: random.Random) -> None:
    numbers = [(node, key) for node in parts for key in node if type(node[key]) in (int, float)]
    node, key = draw.choice(numbers)
    node[key] = draw.choice([str(node[key]), 'high', [node[key]], (node[key],)])


def _value(top: Any, parts: list, draw: random.Random) -> None:
    node = draw.choice(parts)
    node[draw.choice(list(node))] = draw.choice([None, -1, 1.5, 'text', [], {}, {'type': 'Nothing'}, True])


def _sequence(top: Any, parts: list, draw: random.Random) -> None:
    sequences = [(node, key) for node in parts for key in node if isinstance(node[key], (list, tuple))]
    node, key = draw.choice(sequences)
    node[key] = (list if isinstance(node[key], tuple) else tuple)(node[key])


def _base(top: Any, parts: list, draw: random.Random) -> str:
    return f"_base_ = '../{_misspell('default_runtime', draw)}.py'\n"


def _syntax(top: Any, parts: list, draw: random.Random) -> str:
    text = ''.join(f'{key} = {value!r}\n' for key, value in top.items())
    where = draw.choice([place for place, letter in enumerate(text) if letter in '([{'])
    return text[:where] + text[where + 1 :]


MISTAKES: dict[str, Callable[[Any, list, random.Random], str | None]] = {
    'a misspelt key': _key,
    'a misspelt type': _type,
    'a wrong value of a loader': _loader,
    'a wrong path': _path,
    'a wrong or missing section': _section,
    'another type in place of a number': _number,
    'a value of another type': _value,
    'a list in place of a tuple, or a tuple in place of a list': _sequence,
    'a misspelt base': _base,
    'a missing bracket': _syntax,
}
# The other mistakes may be harmless: text for a number if the argument has no type hint, a tuple for a list.
SURE = (
    'a misspelt key', 'a misspelt type', 'a wrong value of a loader', 'a wrong path', 'a wrong or missing section',
    'a misspelt base', 'a missing bracket',
)  # fmt: skip
CASES: list[Callable[[Path, random.Random], str]] = [
    fuzz_shard,
    fuzz_caption,
    fuzz_checkpoint,
    fuzz_config,
    fuzz_list,
    fuzz_image,
    fuzz_names,
]


def run_case(seed: int) -> tuple[str, str]:
    """Run one case.

    Returns:
        Name and outcome of the case: ok, skip, error (a clear one), unseen (changed pixels or captions that the file
        formats cannot detect), or BAD with the reason.
    """
    draw = random.Random(seed)
    case = CASES[seed % len(CASES)]

    def stop(*_: Any) -> None:
        raise TimeoutError(f'the case took longer than {_LIMIT} s')

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LIMIT)
    try:
        with tempfile.TemporaryDirectory() as folder:
            return case.__name__, case(Path(folder), draw)
    except CLEAR as error:
        return case.__name__, 'error' if str(error) else f'BAD: {type(error).__name__} without a message'
    except Exception:
        return case.__name__, f'BAD: {traceback.format_exc()}'
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def main(argv: Sequence[str] | None = None) -> Counter[tuple[str, str]]:
    """Fuzz for some minutes; prints and returns the number of each outcome by case.

    Raises:
        SystemExit: With status 1, if the outcome of a case is BAD.
    """
    parser = argparse.ArgumentParser(description='Damage inputs at random; each must end in a clear error or a skip.')
    parser.add_argument('--minutes', type=float, default=3, help='[3]')
    parser.add_argument('--cases', type=int, help='number of cases, in place of --minutes')
    parser.add_argument('--seed', type=int, default=0, help='seed of the first case; it grows by 1 per case [0]')
    parser.add_argument('--only', type=int, metavar='SEED', help='run only the case with this seed')
    args = parser.parse_args(argv)
    register_all_modules()
    outcomes: Counter[tuple[str, str]] = Counter()
    first, end = (args.seed, time.monotonic() + 60 * args.minutes) if args.only is None else (args.only, 0)
    cases = 1 if args.only is not None else args.cases
    seed = first
    while seed - first < cases if cases is not None else time.monotonic() < end:
        name, outcome = run_case(seed)
        if outcome.startswith('BAD'):
            print(f'case {seed}: {name}: {outcome}')
        outcomes[name, outcome.split(':')[0]] += 1
        seed += 1
    for (name, outcome), count in sorted(outcomes.items()):
        print(f'{name:<16} {outcome:<6} {count:>7}')
    if any(outcome == 'BAD' for _, outcome in outcomes):
        raise SystemExit(1)
    return outcomes


if __name__ == '__main__':
    main()
