from .pretrain_optim_wrapper import PretrainOptimWrapper
from .pretrain_optim_wrapper_constructor import PretrainOptimWrapperConstructor

__all__ = ['PretrainOptimWrapper', 'PretrainOptimWrapperConstructor']
