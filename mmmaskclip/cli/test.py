"""``mmmaskclip-test`` and ``tools/test.py``: evaluate a checkpoint with a config's test tasks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from mmmaskclip.checkpoints.weights import load_weights
from mmmaskclip.cli.config import add_config_arguments, load_config
from mmmaskclip.config_check.check import check_config
from mmmaskclip.config_check.paths import check_paths
from mmmaskclip.startup.processes import leave_processes, setup_processes
from mmmaskclip.utils.tables import format_table


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description='Evaluate a checkpoint with the test tasks of a config.')
    add_config_arguments(parser)
    parser.add_argument('checkpoint', help='path of the checkpoint, or "none" for the untrained model')
    parser.add_argument(
        '--model', metavar='CONFIG', help='take the model, and the size of its images, from this config instead'
    )
    parser.add_argument('--out', metavar='FILE.json', help='also write the metrics to this file')
    parser.add_argument('--amp', action='store_true', help='run the towers in bfloat16')
    parser.add_argument(
        '--show-dir', metavar='DIR', help='also draw the predictions on the images, with mmseg, mmdet or mmpretrain'
    )
    return parser.parse_args(argv)


def use_model(cfg: Config, path: str) -> None:
    """Let a config's test tasks evaluate the model of another config.

    Mean and standard deviation are part of the model. Resizes and crops in the ``transforms`` of the test datasets are
    set to the size of the model's images.

    Args:
        cfg: Config with test tasks; its ``model`` is replaced.
        path: Path of the config with the model.

    Raises:
        FileNotFoundError: If there is no such config.
        ValueError: If it has no model.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'There is no config {path!r}: --model takes a config, the checkpoint comes after it.')
    model = Config.fromfile(path).get('model')
    if model is None:
        raise ValueError(f'{path} has no model: --model takes the config that the checkpoint was trained with.')
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


# By scope: the hook that draws, what makes it draw every image, and a visualizer that can.
_DRAWING: dict[str, tuple[str, dict, str]] = {
    'mmseg': ('mmseg.SegVisualizationHook', dict(draw=True), 'mmseg.SegLocalVisualizer'),
    'mmdet': ('mmdet.DetVisualizationHook', dict(draw=True), 'mmdet.DetLocalVisualizer'),
    'mmpretrain': ('mmpretrain.VisualizationHook', dict(enable=True, interval=1), 'mmpretrain.UniversalVisualizer'),
}


def draw_predictions(cfg: Config, folder: str) -> None:
    """Let a test draw its predictions on every image, with the hook and the visualizer of the config's toolbox.

    mmdet and mmpretrain write into the folder itself, mmseg, by its visualizer, into ``vis_data/vis_image`` there, with
    the labels left of the prediction. Hook and visualizer keep what else the config says of them. Of several processes
    only the first draws, so only its share of the images: the toolboxes' visualizers do nothing elsewhere.

    Args:
        cfg: Config of one of mmseg, mmdet and mmpretrain, told by its ``default_scope``; changed in place.
        folder: Where to draw; made if need be.

    Raises:
        ValueError: If it is of no such toolbox.
    """
    scope = cfg.get('default_scope')
    if scope not in _DRAWING:
        raise ValueError(
            f'--show-dir draws with mmseg, mmdet or mmpretrain, but the config has default_scope={scope!r}. '
            'tools/visualize_segmentation.py draws the predictions of image-text models.'
        )
    hook_type, switches, visualizer_type = _DRAWING[scope]
    # The absolute path: mmdet puts a relative one below the work dir, once more for every batch.
    path = str(Path(folder).resolve())
    targets = {'mmseg': {}, 'mmdet': dict(test_out_dir=path), 'mmpretrain': dict(out_dir=path)}
    hook = {**cfg.get('default_hooks', {}).get('visualization', {}), 'type': hook_type, **switches, **targets[scope]}
    cfg.default_hooks = {**cfg.get('default_hooks', {}), 'visualization': hook}
    visualizer = cfg.get('visualizer') or {}
    if visualizer.get('type', '').split('.')[-1] != visualizer_type.split('.')[-1]:
        visualizer = {**visualizer, 'type': visualizer_type}
    if scope == 'mmseg':
        # Nothing but its backend writes files; others would copy each picture.
        visualizer = {**visualizer, 'save_dir': path, 'vis_backends': [dict(type='LocalVisBackend')]}
    cfg.visualizer = visualizer


def evaluate(cfg: Config, checkpoint: str, amp: bool = False) -> dict[str, float]:
    """Run the test tasks of a config.

    Args:
        cfg: A config with ``launcher`` and ``work_dir``.
        checkpoint: Path of the checkpoint, or ``'none'``.
        amp: Run the towers in bfloat16. Defaults to False.

    Returns:
        The metrics by name.
    """
    # Here, because it imports every toolbox, which neither --help nor a mistake in the config should wait for.
    from mmmaskclip.engine import ReliableRunner

    setup_processes(cfg)
    runner = ReliableRunner.from_cfg(cfg)
    if checkpoint == 'none':
        runner._init_model_weights()  # as train() does before its first step, the broadcast included
    else:
        load_weights(runner.model.module if is_model_wrapper(runner.model) else runner.model, checkpoint)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    with torch.autocast(device, torch.bfloat16, enabled=amp):
        return {name: float(value) for name, value in runner.test().items()}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    """Evaluate; returns the metrics by name."""
    args = parse_args(argv)
    cfg = load_config(args)
    if cfg.get('test_dataloader') is None:
        raise ValueError(f'{args.config} has no test_dataloader: it defines nothing to evaluate.')
    if args.model:
        use_model(cfg, args.model)
        check_config(cfg)
    if cfg.get('model') is None:
        raise ValueError(f'{args.config} has no model: say with --model CONFIG which one the checkpoint is of.')
    if args.show_dir:
        draw_predictions(cfg, args.show_dir)
    cfg.load_from, cfg.resume = None, False
    check_paths(cfg, 'test', None if args.checkpoint == 'none' else args.checkpoint)
    if args.out:  # now and not after hours of evaluation
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        if Path(args.out).is_dir():
            raise IsADirectoryError(f'--out {args.out}: it is a folder; name a file in it.')
    metrics = evaluate(cfg, args.checkpoint, args.amp)
    if is_main_process():
        table = format_table([(name, f'{value:.4f}') for name, value in metrics.items()])
        print(f'\n{args.config}  {args.checkpoint}\n{table}')
        if args.out:
            model = {'model': args.model} if args.model else {}
            result = {'config': args.config, **model, 'checkpoint': args.checkpoint, 'metrics': metrics}
            Path(args.out).write_text(json.dumps(result, indent=2) + '\n')
    leave_processes()
    return metrics


def command() -> None:
    """``mmmaskclip-test``: an entry point's result would become the exit status."""
    main()


if __name__ == '__main__':
    main()
