"""``--model CONFIG`` or ``--model auto``: the test tasks of one config evaluate another model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config, ConfigDict

from mmmaskclip.cli.shipped import find_config
from mmmaskclip.config_check import ConfigMistake


def use_model(cfg: Config, path: str, checkpoint: str = 'none') -> str:
    """Let a config's test tasks evaluate the model of another config, or that of a checkpoint.

    The model brings its own mean and standard deviation. Each ``Resize`` and ``CenterCrop`` in a data set's list of
    transforms is set to the model's image size; one nested in another transform (``Compose``) keeps its size.
    ``Resize`` takes the interpolation of the model's training, and changes the aspect ratio if that training did. For a
    model of images of any shape (NaFlex) ``ResizeToPatches`` takes the place of both, in batches of one image.
    Captions are tokenized for the model's text tower.

    Args:
        cfg: Config with test tasks; its ``model`` is replaced.
        path: Path of the config with the model, or ``'auto'``: the checkpoint and the configs beside it describe the
            model, see :func:`~mmmaskclip.models.from_pretrained.from_pretrained`.
        checkpoint: The checkpoint for ``'auto'``: a path, ``'hf://...'`` or ``'openclip:...'``.

    Returns:
        The file of the checkpoint: ``checkpoint`` itself, unless it named a repository or a folder.

    Raises:
        ConfigMistake: If there is no such config, or it has no model; if the checkpoint cannot be had, or does not say
            which model it belongs to.
    """
    if path == 'auto':
        # A local import: it imports torch, for which --help and a mistake in a config should not wait.
        from mmmaskclip.models.from_pretrained import pretrained_config

        try:
            model, _, checkpoint = pretrained_config(checkpoint)
        except (ValueError, OSError, ImportError) as error:
            raise ConfigMistake(f'--model auto: {error}') from error
        set_model(cfg, ConfigDict(model))
        return checkpoint
    path = find_config(path)
    if not Path(path).is_file():
        raise ConfigMistake(f'There is no config {path!r}: --model takes a config, the checkpoint comes after it.')
    model = Config.fromfile(path).get('model')
    if model is None:
        raise ConfigMistake(f'{path} has no model: --model takes the config that the checkpoint was trained with.')
    set_model(cfg, model)
    return checkpoint


def captions_like(text: dict) -> dict:
    """Arguments that a data set of captions needs so that its captions fit this text tower's config."""
    return {key: text[key] for key in ('context_length', 'tokenizer') if text.get(key) is not None}


def set_model(cfg: Config, model: ConfigDict) -> None:
    """Replace a config's model, and set image size and caption length of its test tasks to the new model's."""
    # Assigned below Config's merging, because nothing of the former model may remain.
    cfg._cfg_dict['model'] = model
    tower, settings = model.get('image_encoder') or {}, model.get('data_preprocessor') or {}
    size = tower.get('img_size')
    if size is not None:
        sides = {size} if isinstance(size, int) else {*size}
        # One number keeps the aspect ratio; two numbers do not.
        size = sides.pop() if len(sides) == 1 else list(size)
    text = model.get('text_encoder') or {}
    captions = captions_like(text)
    # A probe's metric has a training set of its own.
    for node in (cfg.test_dataloader, cfg.test_evaluator):
        for loader in _loaders(node):
            dataset = loader['dataset']
            for transforms in (dataset.get('transforms'), *(dataset.get('views') or {}).values()):
                if settings.get('resize_mode') == 'patches' and _resize_to_patches(transforms or [], tower, settings):
                    loader['batch_size'] = 1
                for step in transforms or ():
                    if size is not None and step.get('type') in ('torchvision/Resize', 'torchvision/CenterCrop'):
                        step['size'] = size
                    if step.get('type') == 'torchvision/Resize':
                        _resize_as_trained(step, settings)
            if str(dataset.get('type')).split('.')[-1] in _READ_CAPTIONS:
                dataset.update(captions)


def _resize_to_patches(transforms: list[dict], tower: dict, settings: dict) -> bool:
    """Put ``ResizeToPatches`` in the place of a resize and drop the crop after it; tell whether there was one."""
    from mmengine.utils import to_2tuple

    at = next((index for index, step in enumerate(transforms) if step.get('type') == 'torchvision/Resize'), None)
    if at is None:
        return False
    resize = dict(type='ResizeToPatches', interpolation=settings.get('interpolation', 'bilinear'))
    # A tower's config may leave the size to its timm model; the patches of all NaFlex models have 16 pixels.
    if tower.get('img_size') is not None:
        resize['max_patches'] = math.prod(side // 16 for side in to_2tuple(tower['img_size']))
    transforms[:] = [
        resize if index == at else step
        for index, step in enumerate(transforms)
        if step.get('type') != 'torchvision/CenterCrop'
    ]
    return True


def _resize_as_trained(step: dict, settings: dict) -> None:
    if 'interpolation' in settings:
        step['interpolation'] = _FILTERS[settings['interpolation']]
    if settings.get('resize_mode') == 'squash' and isinstance(step['size'], int):
        step['size'] = [step['size'], step['size']]
    elif settings.get('resize_mode') == 'longest':
        raise ConfigMistake(
            "the model was trained with resize_mode='longest', which the transforms of the test tasks do not have: "
            'resize and pad in the transforms of the config, and give the config of the model with --model'
        )


# PIL's numbers of its filters, which torchvision accepts. A config cannot hold torchvision's enum.
_FILTERS = {'bilinear': 2, 'bicubic': 3}
# Data sets that tokenize captions.
_READ_CAPTIONS = ('EvaluationShards', 'ImageTextPairs', 'ImageTextShards')


def _loaders(node: object) -> Iterator[dict]:
    """The dicts below a node of a config that hold a data set."""
    if isinstance(node, dict):
        if isinstance(node.get('dataset'), dict):
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for value in node:
            yield from _loaders(value)
