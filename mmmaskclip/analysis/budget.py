"""Training budgets: give configs the same length, and compare the settings that decide a result."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from mmengine.config import Config

from mmmaskclip.utils.fingerprint import fingerprint as fingerprint_of

# The keys that change what is learned or measured. All others concern logs, processes and folders.
_DECISIVE = (
    'train_cfg', 'model', 'train_dataloader', 'optim_wrapper', 'param_scheduler', 'custom_hooks', 'randomness',
    'load_from', 'test_dataloader', 'test_evaluator', 'test_cfg',
)  # fmt: skip
_EVALUATION = ('test_dataloader', 'test_evaluator', 'test_cfg')


def set_epochs(cfg: Config, epochs: int) -> None:
    """Change the length of a run and stretch its schedules, so that they end when training ends.

    Every ``begin``, ``end``, ``T_max`` and milestone, warm-up included, keeps its fraction of the run. A schedule
    without ``end`` ends with the run. Ramps of loss weights and momentum are given as fractions of the run: they need
    no change.

    Args:
        cfg: A config whose ``train_cfg`` has ``max_epochs``; changed in place.
        epochs: The new length.

    Raises:
        ValueError: If ``train_cfg.max_epochs`` is missing, or ``epochs`` is not positive.
    """
    planned = (cfg.get('train_cfg') or {}).get('max_epochs')
    if not planned:
        raise ValueError('train_cfg has no max_epochs: only the length of a run that counts epochs can be changed')
    if epochs < 1:
        raise ValueError(f'epochs={epochs}: a run needs at least one')
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in [schedulers] if isinstance(schedulers, dict) else schedulers:
        # Only schedules with convert_to_iter_based may begin inside an epoch.
        fractions = bool(scheduler.get('convert_to_iter_based'))
        for key in ('begin', 'end', 'T_max'):
            if scheduler.get(key) is not None:
                scheduler[key] = _share(scheduler[key] * epochs / planned, fractions)
        if scheduler.get('milestones'):
            scheduler.milestones = [max(1, round(epoch * epochs / planned)) for epoch in scheduler.milestones]
        if scheduler.get('end') is not None and not fractions:
            scheduler['end'] = max(scheduler['end'], scheduler.get('begin', 0) + 1)
    cfg.train_cfg.max_epochs = epochs


def _share(value: float, fractions: bool) -> int | float:
    """``value`` as int if it is whole or ``fractions`` is False, because a scheduler refuses 12.0 epochs."""
    return value if fractions and not value.is_integer() else round(value)


def decisive_settings(cfg: Config) -> dict[str, Any]:
    """The settings that decide a result, as plain data. Paths of shards are reduced to file names."""
    return {key: plain(cfg.get(key), key) for key in _DECISIVE if cfg.get(key) is not None}


def evaluation_settings(cfg: Config) -> dict[str, Any]:
    """The settings that decide how a model is evaluated, as plain data."""
    return {key: plain(cfg.get(key), key) for key in _EVALUATION}


def fingerprint(settings: dict[str, Any]) -> str:
    """Twelve hexadecimal digits, equal for equal settings on any commit, machine or folder."""
    return fingerprint_of(settings)[:12]


def differences(first: Any, second: Any, path: str = '') -> list[str]:
    """Differences of two trees of plain data, each as ``key.of.the.setting: this != that``."""
    if isinstance(first, dict) and isinstance(second, dict):
        keys = dict.fromkeys([*first, *second])
        parts = (differences(first.get(key), second.get(key), f'{path}.{key}' if path else key) for key in keys)
        return [line for part in parts for line in part]
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [
            line
            for index, (a, b) in enumerate(zip(first, second, strict=True))
            for line in differences(a, b, f'{path}.{index}')
        ]
    return [] if first == second else [f'{path}: {first!r} != {second!r}']


def plain(value: Any, key: str = '') -> Any:
    """A part of a config as data that json can write. Paths of shards are reduced to file names."""
    if isinstance(value, dict):
        return {str(name): plain(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, key) for item in value]
    if isinstance(value, str) and key == 'urls':
        return PurePath(value).name
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
