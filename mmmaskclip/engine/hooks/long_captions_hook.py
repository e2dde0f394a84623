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
    """Logs at the end of each epoch how many captions filled all positions of the text tower, if any did.

    The tokenizer cuts longer captions off. The hook also counts captions of exactly this length, because after the cut
    both look the same. It counts over all ranks, since the begin of the epoch or since the run was resumed within it.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Start the count of an epoch."""
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        # A model that trains its image tower alone may have no text tower.
        text = dict(model.named_children()).get('text_encoder')
        self._length = 0 if text is None else model.context_length
        options = text.tokenizer if isinstance(text, CLIPTextTransformer) else None
        self._padding = (options or {}).get('pad_id', 0)
        self._counts = torch.zeros(2, dtype=torch.int64)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Count a batch on the host, before it is moved to the device."""
        if not self._length or 'tokens' not in (data_batch or {}):
            return
        assert data_batch is not None
        tokens = data_batch['tokens']  # (B, L)
        full = int((tokens[:, -1] != self._padding).sum()) if tokens.shape[1] >= self._length else 0
        self._counts += torch.tensor([full, len(tokens)])

    def after_train_epoch(self, runner: Runner) -> None:
        """Log the count of all ranks."""
        all_reduce(self._counts)
        full, seen = self._counts.tolist()
        if full:
            runner.logger.warning(
                f'{full} of {seen} captions of this epoch ({full / seen:.1%}) fill all {self._length} tokens of the '
                'text tower; the tower does not see the rest. To include it set model.text_encoder.context_length=248 '
                'and stretch_positions=True, and context_length=248 of the datasets (docs/finetune.md, '
                '"Long captions").'
            )
