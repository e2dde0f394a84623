"""The registries of scope ``mmmaskclip``.

Every part of a run is built from one of these by its config. A name that is not found here is looked up in mmengine's
root registry; parts of mmpretrain, mmseg and mmdet are always written with their scope (``mmpretrain.Accuracy``),
because those packages register different classes under the same names.
"""

from mmengine import registry as root
from mmengine.registry import Registry


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope='mmmaskclip', locations=[f'mmmaskclip.{location}'])


MODELS = _child('model', root.MODELS, 'models')
DATASETS = _child('dataset', root.DATASETS, 'datasets')
TRANSFORMS = _child('transform', root.TRANSFORMS, 'datasets')
FUNCTIONS = _child('function', root.FUNCTIONS, 'datasets')
HOOKS = _child('hook', root.HOOKS, 'engine')
LOOPS = _child('loop', root.LOOPS, 'engine')
OPTIM_WRAPPERS = _child('optimizer wrapper', root.OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('optimizer wrapper constructor', root.OPTIM_WRAPPER_CONSTRUCTORS, 'engine')
METRICS = _child('metric', root.METRICS, 'evaluation')
DATA_SAMPLERS = _child('data sampler', root.DATA_SAMPLERS, 'engine')
LOG_PROCESSORS = _child('log processor', root.LOG_PROCESSORS, 'engine')

# Empty, for mmengine's own parts: without a registry of this scope each of them is looked up with a warning.
OPTIMIZERS = _child('optimizer', root.OPTIMIZERS, 'engine')
PARAM_SCHEDULERS = _child('parameter scheduler', root.PARAM_SCHEDULERS, 'engine')
MODEL_WRAPPERS = _child('model wrapper', root.MODEL_WRAPPERS, 'engine')
RUNNERS = _child('runner', root.RUNNERS, 'engine')
EVALUATOR = _child('evaluator', root.EVALUATOR, 'evaluation')
VISUALIZERS = _child('visualizer', root.VISUALIZERS, 'visualization')
VISBACKENDS = _child('visualizer backend', root.VISBACKENDS, 'visualization')
