"""The config of a fine-tuning, from the number of pairs, the weights and the device."""

from __future__ import annotations

import copy
import pprint
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmmaskclip.analysis.memory import GB, count_memory
from mmmaskclip.cli.other_model import captions_like, set_model
from mmmaskclip.cli.shipped import register_shipped_configs, shipped
from mmmaskclip.datasets.evaluation.zero_shot_sets import row_of
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks
from mmmaskclip.startup.machine import look_at_machine

# (pairs, name): up to this number of pairs, take the recipe of this name in configs/finetune_clip.
_RECIPES = ((30_000, 'lock_image_vitb32_1k'), (1_000_000, 'full_vitb32_100k'), (float('inf'), 'full_vitb32_3m'))
# Small zero-shot sets with many kinds of images. The first one on disk measures how much general ability is left.
_ZERO_SHOT = ('cifar10', 'cifar10_folder', 'cifar100', 'stl10', 'caltech101', 'pets', 'food101', 'imagenet')
# A GPU is not busy with fewer pairs at once. Activation checkpointing makes room for more.
_FEW_AT_ONCE = 16
_PARTS = (
    'default_scope', 'model', 'load_from', 'resume', 'randomness', 'train_dataloader', 'train_cfg', 'optim_wrapper',
    'param_scheduler', 'val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg',
    'activation_checkpointing', 'default_hooks', 'custom_hooks', 'log_processor', 'log_level', 'visualizer', 'env_cfg',
)  # fmt: skip


def choose_recipe(pairs: int, lora: int | None = None) -> str:
    """Name of the config in ``configs/finetune_clip`` for a number of pairs; ``lora`` is the rank of adapters."""
    if lora is not None:
        return 'lora_vitb32'
    return next(name for most, name in _RECIPES if pairs <= most)


def choose_zero_shot(root: str) -> str | None:
    """The zero-shot set to watch: the first of :data:`_ZERO_SHOT` that lies below ``root``; None if none does."""
    return next((name for name in _ZERO_SHOT if Path(root, row_of(name).folder).exists()), None)


def finetune_config(
    model: Mapping[str, Any],
    weights: tuple[str, int],
    training: dict[str, Any],
    held_out: dict[str, Any] | None,
    pairs: int,
    on_gpu: bool,
    zero_shot: tuple[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """Make the config.

    Args:
        model: Config of the model.
        weights: The file to start from, and how many blocks its image tower has.
        training: Arguments of the training dataset, without transforms.
        held_out: Arguments of the evaluation dataset, without transforms; None evaluates no retrieval.
        pairs: Images or samples to train on.
        on_gpu: Whether it runs on a GPU.
        zero_shot: Name of a zero-shot set and the folder of all sets. Defaults to None.
        settings: ``epochs``, ``batch_size`` and ``lr`` that replace the recipe's, ``lora``, the rank of adapters, and
            ``context_length``, of captions. None keeps the recipe's or the model's.

    Returns:
        The config, complete, without a work directory.

    Raises:
        ConfigMistake: If the model resizes images in a way that a config's transforms cannot.
    """
    given = {name: value for name, value in (settings or {}).items() if value is not None}
    name = choose_recipe(pairs, given.get('lora'))
    register_shipped_configs()
    cfg = Config.fromfile(str(shipped('configs') / f'finetune_clip/{name}.py'))
    transforms = {
        'train': cfg.train_dataloader.dataset['views']['image'],
        'val': cfg.val_dataloader.retrieval.dataset['transforms'],
    }
    cfg.train_dataloader.dataset = ConfigDict({**training, 'views': dict(image=transforms['train'])})
    _set_validation(cfg, held_out, transforms['val'], zero_shot)
    chosen = copy.deepcopy(ConfigDict(model))
    if 'context_length' in given:
        chosen.text_encoder.update(context_length=given['context_length'], stretch_positions=True)
    set_model(cfg, chosen)
    _set_duplicates(cfg)
    _set_crop(cfg)
    if name.startswith('lock_image') and cfg.model.image_encoder.type == 'CLIPVisionTransformer':
        cfg.model.image_encoder.frozen_stages = weights[1]
    if 'lora' in given:
        cfg.model.lora = {tower: dict(rank=given['lora']) for tower in ('image_encoder', 'text_encoder')}
    cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    cfg.load_from = weights[0]
    cfg.train_cfg.max_epochs = given.get('epochs', cfg.train_cfg.max_epochs)
    cfg.optim_wrapper.optimizer.lr = given.get('lr', cfg.optim_wrapper.optimizer.lr)
    # With fewer than four steps in an epoch, warm-up and decay would have no effect.
    batch_size = given.get('batch_size', max(2, min(cfg.train_dataloader.batch_size, pairs // 4)))
    cfg.train_dataloader.batch_size = batch_size
    cfg.default_hooks.logger.interval = max(1, min(cfg.default_hooks.logger.interval, pairs // batch_size))
    _set_machine(cfg, on_gpu)
    return Config({part: cfg._cfg_dict[part] for part in _PARTS if part in cfg._cfg_dict})


def fit_memory(cfg: Config, memory: int) -> None:
    """Split the batch into micro-batches if it does not fit into the GPU's memory. The losses stay the same.

    Args:
        cfg: Config of :func:`finetune_config`; changed in place.
        memory: Bytes of the GPU.

    Raises:
        ValueError: If not even one pair fits.
    """
    if cfg.model.image_encoder.type != 'CLIPVisionTransformer':
        # The count leaves all blocks but one out, which towers of other libraries do not allow.
        return
    batch_size, needed = cfg.train_dataloader.batch_size, count_memory(cfg)
    fits = needed.largest_batch(memory)
    if fits < min(batch_size, _FEW_AT_ONCE):
        towers = [tower for tower in ('image_encoder', 'text_encoder') if cfg.model.get(tower)]
        cfg.activation_checkpointing = [f'{tower}.layers' for tower in towers]
        fits = needed.largest_batch(memory, checkpointed=True)
    if not fits:
        raise ValueError(
            f'the model needs a GPU of {needed.least_gpu() / GB:.1f} GB to train, by count, and this one has '
            f'{memory / GB:.1f}: train adapters (lora=8), or take a smaller model'
        )
    if fits < batch_size:
        cfg.model.micro_batch_size = fits


def count_blocks(names: Any) -> int:
    """Number of blocks in the image tower of a state dict with this package's parameter names."""
    return len({match[1] for name in names if (match := re.match(r'image_encoder\.layers\.(\d+)\.', name))})


def write_config(cfg: Config, path: Path, about: str) -> None:
    """Write a config as Python that ``tools/train.py`` reads, below the comment ``about``."""
    lines = [f'"""{about}\n"""\n']
    lines += [
        f'{name} = {pprint.pformat(value, width=110, sort_dicts=False)}\n'
        for name, value in cfg._cfg_dict.to_dict().items()
    ]
    path.write_text('\n'.join(lines), encoding='utf-8')


def _set_validation(cfg: Config, held_out: Any, transforms: Any, zero_shot: tuple[str, str] | None) -> None:
    loaders, evaluators = {}, {}
    if held_out is not None:
        place = (
            dict(views=dict(image=transforms)) if held_out['type'] == 'ImageTextPairs' else dict(transforms=transforms)
        )
        loaders['retrieval'] = {**cfg.val_dataloader.retrieval, 'dataset': {**held_out, **place}}
        evaluators['retrieval'] = cfg.val_evaluator.retrieval
    if zero_shot is not None:
        more = tasks(*zero_shot)
        loaders.update(more[0])
        evaluators.update(more[1])
    cfg.test_dataloader, cfg.test_evaluator = ConfigDict(loaders), ConfigDict(evaluators)
    if not loaders:
        cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] != 'GeneralAbilityHook']
        for key in ('val_dataloader', 'val_evaluator', 'val_cfg', 'test_dataloader', 'test_evaluator', 'test_cfg'):
            cfg._cfg_dict.pop(key)


def _set_duplicates(cfg: Config) -> None:
    """Exclude duplicate images and captions of a batch from the negatives, as the recipes do."""
    for objective in cfg.model.objectives.values():
        if objective and objective['type'] == 'ImageTextContrast':
            objective['duplicates'] = ('image', 'caption')
            cfg.train_dataloader.dataset['identify_images'] = True


def _set_crop(cfg: Config) -> None:
    """Crop and resize images as the model's own training did."""
    size = cfg.model.image_encoder.get('img_size', 224)
    settings = cfg.model.get('data_preprocessor') or {}
    for step in cfg.train_dataloader.dataset['views']['image']:
        step.update(size=size, interpolation=settings.get('interpolation', 'bilinear'))
    text = cfg.model.get('text_encoder') or {}
    cfg.train_dataloader.dataset.update(captions_like(text))


def _set_machine(cfg: Config, on_gpu: bool) -> None:
    # On a CPU the main process computes on all cores, so workers would take cores from it.
    workers = min(8, max(0, look_at_machine().cores - 1)) if on_gpu else 0
    for loader in (cfg.train_dataloader, *(cfg.get('val_dataloader') or {}).values()):
        loader.num_workers = workers
        loader.pop('persistent_workers', None)
        loader.pop('pin_memory', None)
        if workers:
            loader.update(persistent_workers=True, pin_memory=True)
    if not on_gpu:
        cfg.optim_wrapper.precision = 'fp32'
