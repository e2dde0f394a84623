from .layer_decay_constructor import LayerDecayOptimWrapperConstructor
from .pretrain_optim_wrapper import PretrainOptimWrapper
from .pretrain_optim_wrapper_constructor import PretrainOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'PretrainOptimWrapper', 'PretrainOptimWrapperConstructor']
