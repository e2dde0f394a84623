from .evaluation_loop import EvaluationLoop
from .pretrain_loop import PretrainLoop
from .segmentation_loop import ZeroShotSegmentationLoop
from .suite_loop import SuiteLoop

__all__ = ['EvaluationLoop', 'PretrainLoop', 'SuiteLoop', 'ZeroShotSegmentationLoop']
