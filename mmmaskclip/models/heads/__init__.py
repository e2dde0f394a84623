from .projection_head import ImageProjectionHead, TextProjectionHead
from .prototype_head import PrototypeHead

__all__ = ['ImageProjectionHead', 'PrototypeHead', 'TextProjectionHead']
