"""``mmmaskclip.train``: fine-tune released weights on own pairs without writing a config."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmmaskclip.checkpoints.translate import convert_weights
from mmmaskclip.cli.config import read_config
from mmmaskclip.cli.finetune_recipe import (
    choose_recipe,
    choose_zero_shot,
    count_blocks,
    finetune_config,
    fit_memory,
    write_config,
)
from mmmaskclip.cli.paths import check_paths
from mmmaskclip.cli.resume import set_resume
from mmmaskclip.cli.summary import validated_metrics
from mmmaskclip.cli.train import run
from mmmaskclip.config_check.check import check_config
from mmmaskclip.datasets.training.held_out import held_out_at, read_pairs_at, split_pairs
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.from_pretrained import pretrained_config
from mmmaskclip.startup.processes import setup_processes

if TYPE_CHECKING:
    from mmmaskclip.apis import ImageTextInferencer

_EVALUATION_ROOT = 'data/zero_shot'


@dataclass(frozen=True)
class FineTuned:
    """The result of a fine-tuning.

    Attributes:
        checkpoint: Path of the weights after the last step.
        config: Path of the config that was trained.
        metrics: Values of the last validation by name, e.g. ``retrieval/image_to_text_R@1``, in percent.
        before: The same metrics of the weights that the fine-tuning started from.
    """

    checkpoint: str
    config: str
    metrics: dict[str, float]
    before: dict[str, float]

    def load(self, **options: Any) -> ImageTextInferencer:
        """The model, ready to use; ``options`` are those of :class:`~mmmaskclip.apis.ImageTextInferencer`."""
        from mmmaskclip.apis import ImageTextInferencer

        return ImageTextInferencer(self.checkpoint, **options)


def finetune(
    pairs: str | os.PathLike | Sequence[str],
    start_from: str | os.PathLike,
    out: str | os.PathLike,
    held_out: str | Sequence[str] | None = None,
    zero_shot: str | None = 'auto',
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    lora: int | None = None,
    context_length: int | None = None,
    image_key: str | None = None,
    caption_key: str | Sequence[str] | None = None,
    device: str | None = None,
) -> FineTuned:
    """Fine-tune a released CLIP on your own pairs; described at :func:`mmmaskclip.train`."""
    folder, arguments = Path(out), _arguments(locals())
    _check_numbers(
        lr, epochs=(epochs, 1), batch_size=(batch_size, 2), lora=(lora, 1), context_length=(context_length, 3)
    )
    if (folder / 'config.py').is_file():
        _compare_arguments(folder, arguments)
        if (folder / 'result.json').is_file():
            return FineTuned(**json.loads((folder / 'result.json').read_text()))
    else:
        _prepare(folder, arguments)
    register_all_modules()
    cfg = read_config(str(folder / 'config.py'))
    check_config(cfg)
    cfg.launcher, cfg.device, cfg.work_dir = 'none', device, str(folder)
    note = set_resume(cfg, 'auto')
    check_paths(cfg)
    setup_processes(cfg)
    runner, code = run(cfg, note if cfg.resume else None)
    if code is not None:
        raise KeyboardInterrupt(
            f'A signal has stopped the fine-tuning; everything is saved in {folder}. The same call resumes it.'
        )
    metrics = {name: values[-1] for name, values in validated_metrics(runner).items()}
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    before = dict(runner.message_hub.get_info('general_ability', {}) or {})
    result = FineTuned(checkpoint, str(folder / 'config.py'), metrics, before)
    (folder / 'result.json').write_text(json.dumps(asdict(result), indent=1))
    return result


def _arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as JSON stores them, without those that only say where to run: they do not change the result."""
    left_out = ('out', 'device')
    plain = {name: _plain(value) for name, value in given.items() if name not in left_out}
    return {name: value for name, value in plain.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _check_numbers(lr: float | None, **least_of: tuple[int | None, int]) -> None:
    for name, (value, least) in least_of.items():
        if value is not None and value < least:
            raise ValueError(f'{name}={value}: give at least {least}, or leave it out')
    if lr is not None and lr <= 0:
        raise ValueError(f'lr={lr}: give a positive learning rate, e.g. 1e-5, or leave it out')


def _compare_arguments(folder: Path, arguments: dict[str, Any]) -> None:
    before = json.loads((folder / 'arguments.json').read_text()) if (folder / 'arguments.json').is_file() else {}
    names = [name for name in {**before, **arguments} if before.get(name) != arguments.get(name)]
    if names:
        changed = '; '.join(f'{name}={before.get(name)!r} there, {arguments.get(name)!r} now' for name in names)
        raise ValueError(
            f'{folder} holds a fine-tuning with other arguments ({changed}): give another out, or the same arguments '
            'to resume it'
        )


def _prepare(folder: Path, arguments: dict[str, Any]) -> None:
    """Read the weights, look at the data, and write ``config.py`` and ``arguments.json``."""
    keys = {name: arguments[name] for name in ('image_key', 'caption_key') if name in arguments}
    model, state_dict, path = pretrained_config(arguments['start_from'])
    blocks = count_blocks(convert_weights(state_dict, path))
    folder.mkdir(parents=True, exist_ok=True)
    if 'held_out' in arguments:
        training, number = read_pairs_at(arguments['pairs'], **keys)
        held_out = held_out_at(arguments['held_out'], **keys)
    else:
        training, held_out, number = split_pairs(arguments['pairs'], folder, **keys)
    root = os.path.abspath(os.environ.get('MMMASKCLIP_EVAL', _EVALUATION_ROOT))
    zero_shot = arguments.get('zero_shot')
    zero_shot = choose_zero_shot(root) if zero_shot == 'auto' else zero_shot
    on_gpu = torch.cuda.is_available()
    cfg = finetune_config(
        model,
        (os.path.abspath(path), blocks),
        training,
        held_out,
        number,
        on_gpu,
        (zero_shot, root) if zero_shot else None,
        {name: arguments.get(name) for name in ('epochs', 'batch_size', 'lr', 'lora', 'context_length')},
    )
    if on_gpu:
        fit_memory(cfg, torch.cuda.get_device_properties(0).total_memory)
    recipe = choose_recipe(number, arguments.get('lora'))
    about = (
        f'Written by mmmaskclip.train: {number} pairs of {arguments["pairs"]}, from {arguments["start_from"]}.\n\n'
        f'Recipe: configs/finetune_clip/{recipe}.py. Zero-shot set: {zero_shot or "none was found"}.'
    )
    (folder / 'arguments.json').write_text(json.dumps(arguments, indent=1))
    write_config(cfg, folder / 'config.py', about.replace('\\', '/'))
