"""``--model CONFIG``: the test tasks of one config evaluate the model of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from mmmaskclip.cli.shipped import find_config
from mmmaskclip.config_check import ConfigMistake


def use_model(cfg: Config, path: str) -> None:
    """Let a config's test tasks evaluate the model of another config.

    Mean and standard deviation are part of the model. Each ``Resize`` and ``CenterCrop`` that stands in the list of
    transforms of a data set is set to the size of the model's images; one that is nested in another transform
    (``Compose``) keeps its size. Captions are cut off at the length of the model's text tower.

    Args:
        cfg: Config with test tasks; its ``model`` is replaced.
        path: Path of the config with the model.

    Raises:
        ConfigMistake: If there is no such config, or it has no model.
    """
    path = find_config(path)
    if not Path(path).is_file():
        raise ConfigMistake(f'There is no config {path!r}: --model takes a config, the checkpoint comes after it.')
    model = Config.fromfile(path, format_python_code=False).get('model')
    if model is None:
        raise ConfigMistake(f'{path} has no model: --model takes the config that the checkpoint was trained with.')
    # Replaced and not merged: of a model that the tests' config has, nothing may remain.
    cfg._cfg_dict['model'] = model
    size = (model.get('image_encoder') or {}).get('img_size')
    if size is not None:
        sides = {size} if isinstance(size, int) else {*size}
        # Two numbers would squash the image; one keeps its shape.
        size = sides.pop() if len(sides) == 1 else list(size)
    context_length = (model.get('text_encoder') or {}).get('context_length')
    # A probe's metric has a training set of its own.
    for node in (cfg.test_dataloader, cfg.test_evaluator):
        for dataset in _datasets(node):
            for transforms in (dataset.get('transforms'), *(dataset.get('views') or {}).values()):
                for step in transforms or ():
                    if size is not None and step.get('type') in ('torchvision/Resize', 'torchvision/CenterCrop'):
                        step['size'] = size
            if context_length is not None and str(dataset.get('type')).split('.')[-1] in _READ_CAPTIONS:
                dataset['context_length'] = context_length


# Data sets that tokenize captions.
_READ_CAPTIONS = ('EvaluationShards', 'ImageTextPairs', 'ImageTextShards')


def _datasets(node: object) -> Iterator[dict]:
    """The data sets below a node of a config."""
    if isinstance(node, dict):
        if isinstance(node.get('dataset'), dict):
            yield node['dataset']
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _datasets(value)
