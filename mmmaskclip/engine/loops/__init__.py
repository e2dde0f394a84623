"""Training and evaluation loops."""

from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.loops.pretrain_loop import PretrainLoop
from mmmaskclip.engine.loops.segmentation_loop import ZeroShotSegmentationLoop
from mmmaskclip.engine.loops.suite_loop import SuiteLoop

__all__ = ['EvaluationLoop', 'PretrainLoop', 'SuiteLoop', 'ZeroShotSegmentationLoop']
