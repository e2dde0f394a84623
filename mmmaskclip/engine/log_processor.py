"""Log lines of a training run, one per log interval."""

from __future__ import annotations

import datetime

from mmengine.runner import LogProcessor, Runner

from mmmaskclip.registry import LOG_PROCESSORS

_UNITS = {'memory': ' MB', 'step_time': ' s'}
_FIRST = ('lr', 'step_time', 'images_per_second', 'data_share', 'memory', 'skipped')


@LOG_PROCESSORS.register_module()
class PretrainLogProcessor(LogProcessor):
    """mmengine's log processor with one readable line per interval, from the scalars of :class:`TrainingMonitorHook`.

    The base class pads names, writes four decimals for every value and shows memory only on a GPU. The base class also
    averages over the last ``window_size`` values; here the window is 1, because the monitor has already averaged over
    the interval. ``time`` and ``data_time`` of mmengine's timer are dropped: both describe one iteration, and
    ``data_time`` includes logging and saving.
    """

    def __init__(self) -> None:
        super().__init__(window_size=1)

    def get_log_after_iter(self, runner: Runner, batch_idx: int, mode: str) -> tuple[dict, str]:
        """Scalars for the visualizer backends, and the line to print.

        Args:
            runner: The runner.
            batch_idx: Index of the batch in its epoch.
            mode: ``'train'``, ``'val'`` or ``'test'``. The base class formats ``'val'`` and ``'test'``.

        Returns:
            The scalars by name (with ``epoch`` and ``iter``), and the line.
        """
        tag, line = super().get_log_after_iter(runner, batch_idx, mode)
        if mode != 'train':
            return tag, line
        tag = {name: value for name, value in tag.items() if name not in ('time', 'data_time')}
        width = len(str(len(runner.train_dataloader)))
        parts = [
            f'Epoch [{runner.epoch + 1}/{runner.max_epochs}][{batch_idx + 1:{width}d}/{len(runner.train_dataloader)}]',
            f'eta: {datetime.timedelta(seconds=int(runner.message_hub.get_info("eta")))}',
        ]
        losses = [name for name in tag if name not in (*_FIRST, 'base_lr', 'epoch', 'iter')]
        shown = {name: tag[name] for name in losses}
        shown['lr'] = tag.get('base_lr', tag['lr'])
        shown.update((name, tag[name]) for name in _FIRST[1:] if name in tag)
        parts += [f'{name}: {_short(name, value)}' for name, value in shown.items()]
        return tag, '  '.join(parts)


def _short(name: str, value: float) -> str:
    if name == 'data_share':
        return f'{value:.1%}'
    if name == 'lr':
        return f'{value:.3e}'
    if isinstance(value, int):
        return f'{value:d}{_UNITS.get(name, "")}'
    # Five digits: enough to see a loss change, and a teacher momentum of 0.99912 differ from 1.
    return f'{value:.5g}{_UNITS.get(name, "")}'
