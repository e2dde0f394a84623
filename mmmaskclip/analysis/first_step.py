"""Checks that the parts of a pretraining config fit together: a step on tensors without values, before data is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.models.pretrainers import ImageTextPretrainer
from mmmaskclip.registry import MODELS


def check_first_step(cfg: Config) -> None:
    """Run the forward pass of one step on torch's ``meta`` device, which computes shapes only.

    It does not check models of other packages, or datasets with unknown views.

    Args:
        cfg: A training config.

    Raises:
        ValueError: If a part gets an input of another width, size or number of patches than it is built for, or if a
            view is missing.
    """
    if MODELS.get(cfg.model.type) is not ImageTextPretrainer:
        return
    try:
        batch = random_batch(cfg, batch_size=2, caption_length=8)
    except ValueError:
        return
    try:
        with torch.device('meta'):
            model = MODELS.build(cfg.model)
    except RuntimeError:  # mmpretrain's backbones compute rates of drop path with tensors, which need values
        model = MODELS.build(cfg.model)
    model = model.to('meta').train()
    with ExitStack() as stack:
        # The meta device has no autocast.
        stack.enter_context(mock.patch.object(torch, 'autocast', return_value=nullcontext()))
        running = stack.enter_context(_named_calls(model))
        try:
            model(mode='loss', **model.data_preprocessor(batch, training=True))
        except RuntimeError as error:
            if not running:
                return
            name, module, shapes = running[-1]
            raise ValueError(
                f'model.{name}, a {module}, does not fit its input of shape {shapes}: give it and '
                f'the part before it the same width ({error})'
            ) from error
    _warn_of_interpolation(model.image_encoder, batch)


@contextmanager
def _named_calls(model: nn.Module) -> Iterator[list[tuple[str, nn.Module, str]]]:
    """The calls of modules that have not returned: name, module and shapes of the inputs."""
    names = {module: name for name, module in model.named_modules()}
    running: list[tuple[str, nn.Module, str]] = []

    def enter(module: nn.Module, inputs: tuple) -> None:
        shapes = ', '.join(str(tuple(value.shape)) for value in inputs if isinstance(value, torch.Tensor))
        running.append((names.get(module, type(module).__name__), module, shapes))

    def leave(module: nn.Module, inputs: tuple, output: Any) -> None:
        running.pop()

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield running
    finally:
        for handle in handles:
            handle.remove()


def _warn_of_interpolation(tower: Any, batch: dict) -> None:
    """Warn if the tower's position embeddings are for another image size than that of the training images."""
    made_for, size = getattr(tower, 'img_size', None), tuple(batch['image'].shape[-2:]) if 'image' in batch else None
    if made_for is not None and size is not None and tuple(made_for) != size:
        print_log(
            f'model.image_encoder.img_size={tuple(made_for)}, but the training images are {size}: position embeddings '
            'are interpolated in every step; set img_size to the crop size to train them as they are',
            logger='current',
            level=30,
        )
