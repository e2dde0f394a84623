# What fine-tuning and linear probes share, with mmpretrain's runner: hooks, pictures, loops.
_base_ = './downstream_runtime.py'
default_scope = 'mmpretrain'

val_cfg = dict()
test_cfg = dict()
default_hooks = dict(visualization=dict(type='mmpretrain.VisualizationHook', enable=False))
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')],
)
