"""``--model CONFIG``: the test tasks of one config evaluate the model of another."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mmmaskclip.cli.shipped import find_config
from mmmaskclip.config_check import ConfigMistake


def use_model(cfg: Config, path: str) -> None:
    """Let a config's test tasks evaluate the model of another config.

    Mean and standard deviation are part of the model. Resizes and crops in the ``transforms`` of the test datasets are
    set to the size of the model's images.

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
    size = model.get('image_encoder', {}).get('img_size')
    if size is not None:
        sides = {size} if isinstance(size, int) else {*size}
        # Two numbers would squash the image; one keeps its shape.
        wanted = sides.pop() if len(sides) == 1 else list(size)
        # A probe's metric has a training set of its own.
        for node in (cfg.test_dataloader, cfg.test_evaluator):
            _set_image_size(node, wanted)


def _set_image_size(node: object, size: int | list[int]) -> None:
    if isinstance(node, dict):
        if node.get('type') in ('torchvision/Resize', 'torchvision/CenterCrop'):
            node['size'] = size
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            _set_image_size(value, size)
