"""The last lines in the log of a finished training: its results, and the commands to run next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.runner import Runner


def summarize(runner: Runner, config: str) -> str:
    """List the checkpoint, the metrics, the skipped samples and steps, and the commands that evaluate and draw.

    Args:
        runner: A Runner whose training has ended.
        config: Name of the config as the user gave it.

    Returns:
        Lines for the log.
    """
    work_dir = Path(runner.work_dir)
    lines = [f'Training has ended at epoch {runner.epoch}, iteration {runner.iter}.']
    last = work_dir / 'last_checkpoint'
    checkpoint = last.read_text().strip() if last.is_file() else None
    lines.append(f'Checkpoint: {checkpoint}' if checkpoint else f'Checkpoint: none was saved in {work_dir}')
    lines += _metrics(runner)
    lines += _skipped(runner)
    if checkpoint and runner.cfg.get('test_dataloader') is not None:
        lines.append(f'Evaluate: {_command("tools/test.py")} {config} {checkpoint}')
    if checkpoint and (runner.cfg.get('model') or {}).get('type') == 'ImageTextPretrainer':
        lines.append(
            f'Similarity maps: {_command("tools/visualize_similarity.py")} PHOTO --words WORD ... --config {config} '
            f'--checkpoints {checkpoint}'
        )
    curves = _command('tools/analysis_tools/plot_curves.py')
    lines.append(f'Curves: {curves} {work_dir} --keys loss --out {work_dir}/curves.png')
    return '\n  '.join(lines)


def _command(tool: str) -> str:
    """How a tool is called from here: by its file in a clone, elsewhere by its name."""
    return f'python {tool}' if Path(tool).is_file() else f'mmmaskclip {Path(tool).stem}'


def validated_metrics(runner: Runner) -> dict[str, list[float]]:
    """Each metric's value in every validation of a run, by name; not the times, which mmengine keeps beside them."""
    return {
        name.removeprefix('val/'): [float(value) for value in buffer.data[0]]
        for name, buffer in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and name not in ('val/time', 'val/data_time') and len(buffer.data[0])
    }


def _metrics(runner: Runner) -> list[str]:
    """Give the last and the best value of each metric of the validations."""
    lines = []
    for name, values in validated_metrics(runner).items():
        best = f' (highest {max(values):.4g})' if len(values) > 1 else ''
        lines.append(f'{name}: {values[-1]:.4g}{best}')
    return [f'Last validation: {"; ".join(lines)}'] if lines else ['Last validation: there was none']


def _skipped(runner: Runner) -> list[str]:
    state: dict[str, Any] = runner.message_hub.get_info('bad_samples', None) or {}
    causes: dict[str, int] = state.get('causes') or {}
    if not causes:
        return []
    listed = ', '.join(f'{cause} {count}' for cause, count in causes.items())
    return [
        f'Skipped samples: {sum(causes.values())} of {state["seen"]} ({listed}), '
        f'listed in {Path(runner.work_dir) / "bad_samples.jsonl"}'
    ]
