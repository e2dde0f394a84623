"""The record of an evaluation: all settings behind a result, so that two results can be compared setting by setting."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmaskclip.analysis.budget import evaluation_settings, plain
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.engine.run_state import versions
from mmmaskclip.registry import DATASETS
from mmmaskclip.utils.fingerprint import fingerprint

_PROMPTS = ('classes', 'templates')


def evaluation_record(cfg: Config, checkpoint: str, amp: bool) -> dict[str, Any]:
    """Everything that decides the metrics of a test.

    Args:
        cfg: Config of the test. It holds read-out, resolution, window, stride, thresholds and refinement.
        checkpoint: The file with the weights, or ``'none'``.
        amp: Whether the towers ran in bfloat16.

    Returns:
        ``model`` and the settings of the test as plain data; ``weights``, the SHA-256 of the checkpoint; ``prompts``, a
        fingerprint of every prompt file that the settings name, and of the class names that a data set has itself;
        ``precision``; ``versions``.
    """
    settings = {'model': plain(cfg.get('model')), **evaluation_settings(cfg)}
    files = {f'{kind} {name}': _prompt_hash(kind, name) for kind, name in _prompt_files(settings)}
    return {
        **settings,
        'weights': _file_hash(checkpoint),
        'prompts': dict(sorted((files | _names_of_data_sets(settings.get('test_dataloader'))).items())),
        'precision': 'bfloat16' if amp else 'float32',
        'versions': versions(),
    }


def _file_hash(path: str) -> str:
    if not Path(path).is_file():
        return path
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _prompt_files(node: Any) -> set[tuple[str, str]]:
    """Kind (``classes`` or ``templates``) and name of every prompt file in the settings."""
    if isinstance(node, dict):
        files = {(kind, node[kind]) for kind in _PROMPTS if isinstance(node.get(kind), str)}
        return files.union(*map(_prompt_files, node.values()))
    if isinstance(node, list):
        return set().union(*map(_prompt_files, node))
    return set()


def _names_of_data_sets(node: Any) -> dict[str, str]:
    """Fingerprints of the class names of data sets, which are prompts where a config gives none."""
    if not isinstance(node, dict):
        return {}
    dataset = node.get('dataset')
    if not isinstance(dataset, dict):
        return {key: value for child in node.values() for key, value in _names_of_data_sets(child).items()}
    known = getattr(DATASETS.get(dataset.get('type', '')), 'METAINFO', None) or {}
    names = (dataset.get('metainfo') or known).get('classes')
    path = dataset.get('ann_file')
    if names is None and isinstance(path, str) and path.endswith('.json') and Path(path).is_file():
        content = json.loads(Path(path).read_bytes())
        names = [one['name'] for one in content.get('categories', ())] if isinstance(content, dict) else None
    return {f'classes of {dataset["type"]}': fingerprint(list(names))} if names else {}


def _prompt_hash(kind: str, name: str) -> str:
    try:
        content = getattr(load_prompts(name), kind)
    except (OSError, ValueError):  # another kind of file, e.g. a list of names
        return _file_hash(name)
    return fingerprint(content)
