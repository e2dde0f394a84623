"""Counts the captions that are longer than the text tower reads."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.models.backbones import CLIPTextTransformer
from mmmaskclip.registry import HOOKS


@HOOKS.register_module()
class LongCaptionsHook(Hook):
    """Says at the end of each epoch how many captions filled all positions of the text tower, if any did.

    A tokenizer cuts off what comes after them. A caption that is exactly as long is counted, too: nothing tells the two
    apart after the cut. The count is that of all ranks since the epoch began, or since the run was resumed in it.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Begin to count."""
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # A tuning of the image tower alone reads no captions.
        text = dict(model.named_children()).get('text_encoder')
        self._length = 0 if text is None else model.context_length
        options = text.tokenizer if isinstance(text, CLIPTextTransformer) else None
        self._padding = (options or {}).get('pad_id', 0)
        self._counts = torch.zeros(2, dtype=torch.int64)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count a batch, on the host, where the loader has left it."""
        if not self._length or 'tokens' not in (data_batch or {}):
            return
        assert data_batch is not None
        tokens = data_batch['tokens']  # (B, L)
        full = int((tokens[:, -1] != self._padding).sum()) if tokens.shape[1] >= self._length else 0
        self._counts += torch.tensor([full, len(tokens)])

    def after_train_epoch(self, runner: Runner) -> None:
        """Say it."""
        all_reduce(self._counts)
        full, seen = self._counts.tolist()
        if full:
            runner.logger.warning(
                f'{full} of {seen} captions of this epoch ({full / seen:.1%}) fill all {self._length} tokens of the '
                'text tower; what comes after is not read. To read it set model.text_encoder.context_length=248 and '
                'stretch_positions=True, and context_length=248 of the datasets (docs/finetune.md, "Long captions").'
            )
