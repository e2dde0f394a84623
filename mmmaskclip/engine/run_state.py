"""The state of a run besides model and optimizer: random generators, config and versions."""

from __future__ import annotations

import platform
import random
from typing import Any

import mmengine
import numpy as np
import torch
from mmengine.config import Config

from mmmaskclip.utils.fingerprint import fingerprint
from mmmaskclip.version import __version__

# Keys that do not change the result; ignored when configs are compared.
_INCIDENTAL = {
    'custom_imports', 'default_hooks', 'device', 'env_cfg', 'experiment_name', 'launcher', 'load_from', 'log_level',
    'log_processor', 'resume', 'test_cfg', 'test_dataloader', 'test_evaluator', 'visualizer', 'work_dir',
}  # fmt: skip


def get_random_state() -> dict[str, Any]:
    """The states of this process's random generators: Python, numpy, torch and the current GPU."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, gauss),
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the states of :func:`get_random_state`. Without a GPU the GPU's state is ignored."""
    random.setstate(state['python'])
    kind, keys, position, has_gauss, gauss = state['numpy']
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state['torch'])
    if state['cuda'] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'])


def config_fingerprints(cfg: Config) -> dict[str, str]:
    """A fingerprint of each top-level config key that may change the result of training.

    The work directory, hooks that only log or save, and tests are left out. The seed is left out too, because a resumed
    run takes the seed of its checkpoint.
    """
    content = {key: value for key, value in cfg.to_dict().items() if key not in _INCIDENTAL}
    if 'randomness' in content:
        content['randomness'] = {key: value for key, value in content['randomness'].items() if key != 'seed'}
    return {key: fingerprint(value)[:16] for key, value in sorted(content.items())}


def config_fingerprint(parts: dict[str, str]) -> str:
    """One fingerprint over all fingerprints of :func:`config_fingerprints`."""
    return fingerprint(parts)[:16]


def differing_keys(saved: dict[str, str], current: dict[str, str]) -> list[str]:
    """Config keys whose fingerprints differ, or that only one config has."""
    return sorted(key for key in saved.keys() | current.keys() if saved.get(key) != current.get(key))


def differences(filename: str, meta: dict[str, Any], cfg: Config) -> list[str]:
    """Warnings for resuming with a changed config or changed library versions.

    Args:
        filename: Path of the checkpoint.
        meta: The checkpoint's meta, with ``config_parts`` and ``versions``.
        cfg: Config of the resumed run.
    """
    texts = []
    if keys := differing_keys(meta['config_parts'], config_fingerprints(cfg)):
        texts.append(
            f'The config differs from that of {filename} in {", ".join(keys)}: the run does not continue as the '
            'interrupted one would have. Optimizer (learning rate, weight decay) and schedules have the state of the '
            'checkpoint; everything else is as configured now.'
        )
    changed = {name: (meta['versions'].get(name), now) for name, now in versions().items()}
    if other := [f'{name} {then}, now {now}' for name, (then, now) in changed.items() if then != now]:
        texts.append(f'{filename} was saved with {"; ".join(other)}: results may differ in the last digits.')
    return texts


def versions() -> dict[str, str]:
    """Versions of the libraries that compute a step."""
    return {
        'mmmaskclip': __version__,
        'mmengine': mmengine.__version__,
        'torch': str(torch.__version__),
        'numpy': np.__version__,
        'python': platform.python_version(),
    }
