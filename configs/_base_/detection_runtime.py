# What the detectors share, with mmdet's runner.
_base_ = './downstream_runtime.py'
default_scope = 'mmdet'

default_hooks = dict(visualization=dict(type='mmdet.DetVisualizationHook'))
visualizer = dict(
    type='mmdet.DetLocalVisualizer',
    vis_backends=[dict(type='mmengine.LocalVisBackend'), dict(type='mmengine.TensorboardVisBackend')],
)
# Every batch has another size; each new one would be benchmarked.
env_cfg = dict(cudnn_benchmark=False)
