"""``--show-dir DIR``: a test draws its predictions with the hook and the visualizer of the config's toolbox."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config

from mmmaskclip.config_check import ConfigMistake

# By scope: the hook that draws, its arguments for drawing every image, and the visualizer that the hook needs.
_DRAWING: dict[str, tuple[str, dict, str]] = {
    'mmseg': ('mmseg.SegVisualizationHook', dict(draw=True), 'mmseg.SegLocalVisualizer'),
    'mmdet': ('mmdet.DetVisualizationHook', dict(draw=True), 'mmdet.DetLocalVisualizer'),
    'mmpretrain': ('mmpretrain.VisualizationHook', dict(enable=True, interval=1), 'mmpretrain.UniversalVisualizer'),
}


def draw_predictions(cfg: Config, folder: str) -> None:
    """Let a test draw its predictions on every image, with the hook and the visualizer of the config's toolbox.

    mmdet and mmpretrain write into the folder itself. mmseg's visualizer writes into its ``vis_data/vis_image`` and
    draws the labels left of the prediction. Hook and visualizer keep the config's other settings. The toolboxes'
    visualizers draw in the first process only. With several processes, therefore, only its share of images is drawn.

    Args:
        cfg: Config whose ``default_scope`` is mmseg, mmdet or mmpretrain; changed in place.
        folder: Where to draw; created if it does not exist.

    Raises:
        ConfigMistake: If the config belongs to none of these toolboxes.
    """
    scope = cfg.get('default_scope')
    if scope not in _DRAWING:
        raise ConfigMistake(
            f'--show-dir draws with mmseg, mmdet or mmpretrain, but the config has default_scope={scope!r}. '
            'tools/visualize_segmentation.py draws the predictions of image-text models.'
        )
    hook_type, switches, visualizer_type = _DRAWING[scope]
    # An absolute path: mmdet prepends the work dir to a relative path again in every batch.
    path = str(Path(folder).resolve())
    targets = {'mmseg': {}, 'mmdet': dict(test_out_dir=path), 'mmpretrain': dict(out_dir=path)}
    hook = {**cfg.get('default_hooks', {}).get('visualization', {}), 'type': hook_type, **switches, **targets[scope]}
    cfg.default_hooks = {**cfg.get('default_hooks', {}), 'visualization': hook}
    visualizer = cfg.get('visualizer') or {}
    if visualizer.get('type', '').split('.')[-1] != visualizer_type.split('.')[-1]:
        visualizer = {**visualizer, 'type': visualizer_type}
    if scope == 'mmseg':
        # Only the local backend; each further backend would store another copy of every picture.
        visualizer = {**visualizer, 'save_dir': path, 'vis_backends': [dict(type='LocalVisBackend')]}
    cfg.visualizer = visualizer
