from .evaluation_loop import EvaluationLoop
from .pretrain_loop import PretrainLoop

__all__ = ['EvaluationLoop', 'PretrainLoop']
