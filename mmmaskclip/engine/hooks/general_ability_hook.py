"""Watches what a fine-tuned model forgets: compares its zero-shot metrics with those before the first step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.checkpoints.files import plain, write_checkpoint
from mmmaskclip.engine.distributed.fsdp import FullyShardedModel
from mmmaskclip.evaluation import RetrievalRecall, ZeroShotClassification
from mmmaskclip.registry import HOOKS

_STATE = 'general_ability'


@HOOKS.register_module()
class GeneralAbilityHook(Hook):
    """Validates before the first step, and warns when a metric falls too far below that starting point.

    A model that is fine-tuned on one kind of images gets worse on other kinds, with any loss (Kumar et al. 2022;
    Wortsman et al. 2022, WiSE-FT). Checkpoints hold the metrics of the starting point, so a resumed run compares with
    the same numbers.

    Args:
        max_fall: Percentage points that a metric may fall below its starting point. Defaults to 2.
        metrics: Names of the metrics to watch, as they stand in the log. Defaults to those of all zero-shot
            classifications of the validation.
        retrieval: Whether the default also watches all retrieval metrics. Dense tuning does, because it teaches no new
            captions, so retrieval should not fall either. Defaults to False.
        on_fall: ``'warn'``; or ``'restore'``, which also restores the weights of the last validation within
            ``max_fall``, writes them to ``WORK_DIR/restored.pth``, and ends the training. Defaults to ``'warn'``.

    Raises:
        ValueError: If ``max_fall`` is negative or ``on_fall`` unknown. Before the first step: if there is no
            validation, if the validation does not give one of ``metrics``, or if ``'restore'`` is used with FSDP.
    """

    # After the hooks that log and save a validation.
    priority = 'LOWEST'

    def __init__(
        self,
        max_fall: float = 2.0,
        metrics: Sequence[str] | None = None,
        retrieval: bool = False,
        on_fall: Literal['warn', 'restore'] = 'warn',
    ) -> None:
        if max_fall < 0:
            raise ValueError(f'max_fall={max_fall}: give the points that a metric may fall, e.g. 2.0')
        if on_fall not in ('warn', 'restore'):
            raise ValueError(f"on_fall={on_fall!r}: choose 'warn' or 'restore'")
        self.max_fall, self.metrics, self.on_fall = max_fall, metrics, on_fall
        self._kinds = (ZeroShotClassification, RetrievalRecall) if retrieval else (ZeroShotClassification,)
        self._start: dict[str, float] = {}
        self._good: tuple[int, dict[str, Any]] | None = None

    def before_train(self, runner: Runner) -> None:
        """Validate, unless the run is resumed and its checkpoint has the starting point."""
        if runner.val_loop is None:
            text = (
                'GeneralAbilityHook compares validations, but there is none: give val_dataloader, val_evaluator and '
                'val_cfg (docs/evaluation.md, "While training"), or leave the hook out of custom_hooks'
            )
            if self.metrics is not None:
                raise ValueError(text)
            runner.logger.warning(text)
            return
        if self.on_fall == 'restore' and isinstance(runner.model, FullyShardedModel):
            raise ValueError("on_fall='restore' needs whole weights on each rank, FSDP shards them: use on_fall='warn'")
        self._start = dict(runner.message_hub.get_info(_STATE, {}) or {})
        if self._start:
            self._keep(runner)
        elif runner.iter:
            runner.logger.warning(
                'GeneralAbilityHook: the checkpoint has no starting point; the next validation serves as one.'
            )
        else:
            runner.val_loop.run()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Compare the metrics with the starting point; warn, or restore the weights, if one has fallen too far."""
        found = {name: float(value) for name, value in (metrics or {}).items()}
        watched = self._watched(runner, found)
        if not self._start:
            self._start = found
            runner.message_hub.update_info(_STATE, found)
            names = ', '.join(f'{name} {found[name]:.2f}' for name in watched)
            runner.logger.info(f'Starting point of the general ability: {names or "nothing is watched"}.')
            if not watched:
                runner.logger.warning(
                    'No zero-shot set is validated, so nothing shows what the model forgets. Add one: docs/finetune.md'
                    ', "What is forgotten".'
                )
            self._keep(runner)
            return
        falls = {name: self._start[name] - found[name] for name in watched if name in self._start}
        # Not `> max_fall`: a NaN must count as a fall.
        fallen = {name: fall for name, fall in falls.items() if not fall <= self.max_fall}
        if not fallen:
            self._keep(runner)
            return
        listed = ', '.join(f'{name} from {self._start[name]:.2f} to {found[name]:.2f}' for name in fallen)
        remedy = 'lower lr, train fewer epochs or use adapters (model.lora); mix_weights.py can take some of it back'
        runner.logger.warning(f'General ability has fallen by more than {self.max_fall:g}: {listed}. {remedy}.')
        if self.on_fall == 'restore':
            self._restore(runner)

    def _watched(self, runner: Any, found: dict[str, float]) -> list[str]:
        if self.metrics is not None:
            if missing := [name for name in self.metrics if name not in found]:
                raise ValueError(f'GeneralAbilityHook.metrics has {missing}, but the validation gives {sorted(found)}')
            return list(self.metrics)
        prefixes = [
            f'{metric.prefix or metric.default_prefix}/'
            for evaluator in runner.val_loop.evaluators.values()
            for metric in evaluator.metrics
            if isinstance(metric, self._kinds)
        ]
        return [name for name in found if name.startswith(tuple(prefixes))]

    def _keep(self, runner: Any) -> None:
        if self.on_fall == 'restore':
            self._good = runner.iter, plain(_bare(runner).state_dict())

    def _restore(self, runner: Any) -> None:
        assert self._good is not None
        iteration, state_dict = self._good
        _bare(runner).load_state_dict(state_dict)
        path = Path(runner.work_dir) / 'restored.pth'
        if runner.rank == 0:
            meta = {'iter': iteration, 'cfg': runner.cfg.pretty_text}
            write_checkpoint(path, {'state_dict': state_dict, 'meta': meta})
        runner.logger.warning(f'The weights of iteration {iteration} are restored and saved as {path}; training ends.')
        runner.train_loop.stop_training = True


def _bare(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
