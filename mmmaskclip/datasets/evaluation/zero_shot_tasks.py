"""Tasks of the evaluation loop from rows of the table of zero-shot sets, for configs, and the table of the docs.

A config calls :func:`tasks` and gets plain dicts. So ``--cfg-options`` can change every fact, and the dumped config and
the fingerprint of a result contain all of them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmmaskclip.datasets.evaluation.zero_shot_sets import SUITES, ZERO_SHOT_SETS, row_of
from mmmaskclip.utils.tables import format_table

METRICS = {
    'top1': 'top-1',
    'mean_per_class': 'mean per class',
    'mean_top1_top5': '(top-1 + top-5) / 2',
    'roc_auc': 'ROC AUC',
    'map11': '11-point mAP',
}


def labelled_images(name: str, root: str, split: str = 'test', resize: str | None = None) -> dict[str, Any]:
    """Config of the :class:`~mmmaskclip.datasets.LabelledImages` of a set.

    Args:
        name: Name of the set's row.
        root: Folder that holds all sets.
        split: ``'test'``, or ``'train'`` for a probe, where the row has a training split.
        resize: Interpolation, ``'bilinear'`` or ``'bicubic'``; None takes the row's.

    Raises:
        ValueError: If there is no such row or the row has no training split.
    """
    row = row_of(name)
    if split == 'train':
        if not row.train:
            raise ValueError(f'the row of {name!r} in zero_shot_sets.py has no training split: add train=dict(...)')
        row = replace(row, **row.train)
    bicubic = {'interpolation': 'bicubic'} if (resize or row.resize) == 'bicubic' else {}
    return dict(
        type='LabelledImages',
        # tools/test.py --model sets the size to the model's.
        transforms=[
            dict(type='torchvision/Resize', size=224, **bicubic),
            dict(type='torchvision/CenterCrop', size=224),
        ],
        classes=row.classes,
        num_classes=row.num_classes,
        num_samples=row.num_samples,
        get=row.get,
        **row.where(root),
        **row.options,
    )


def loader(dataset: dict[str, Any]) -> dict[str, Any]:
    """Config of a test dataloader."""
    return dict(
        batch_size=256,
        num_workers=4,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dataset,
    )


def tasks(
    names: str | Sequence[str], root: str, resize: str | None = None
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Dataloaders and evaluators of sets, for ``test_dataloader`` and ``test_evaluator``, or for a validation.

    Args:
        names: Name of a row or of a suite, or names of several rows.
        root: Folder that holds all sets.
        resize: Interpolation for all sets; None takes the interpolation of each row.

    Returns:
        Two dicts by the name of the task.
    """
    loaders, evaluators = {}, {}
    for name in SUITES.get(names, [names]) if isinstance(names, str) else names:
        row = row_of(name)
        task = row.task or name
        loaders[task] = loader(labelled_images(name, root, resize=resize))
        templates = {'templates': row.templates} if row.templates else {}
        evaluators[task] = dict(type='ZeroShotClassification', classes=row.classes, metric=row.metric, **templates)
    return loaders, evaluators


def tasks_where_present(
    name: str, root: str, resize: str | None = None
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """:func:`tasks` of one set, or two empty dicts if the set has no folder below ``root``."""
    return tasks(name, root, resize) if Path(root, row_of(name).folder).exists() else ({}, {})


def probe_loader(name: str, root: str) -> dict[str, Any]:
    """Config of the ``train_dataloader`` of a probe: the training split of a set."""
    return dict(batch_size=256, num_workers=4, dataset=labelled_images(name, root, split='train'))


def markdown_table() -> str:
    """The table of docs/evaluation.md, which ``python tests/config_tables.py`` writes there."""
    head = ['config', 'set', 'SLIP-26', 'ICinW-20', 'metric', 'samples', 'classes', 'read by, at', 'shards']
    rows = []
    for name, row in ZERO_SHOT_SETS.items():
        cells = [
            f'`{name}`',
            row.title,
            *('yes' if name in suite else '' for suite in SUITES.values()),
        ]
        cells += [METRICS[row.metric], f'{row.num_samples or "—"}', f'{row.num_classes}']
        cells += [f'`{row.source}` at `{row.folder}`', f'`{row.shards.split("/")[0]}`' if row.shards else '']
        cells.append(f'{row.get} {row.note}'.strip())
        rows.append(cells)
    return format_table(rows, [*head, 'how to get it, notes'], markdown=True) + '\n'
