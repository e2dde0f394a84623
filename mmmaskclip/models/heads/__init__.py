from mmmaskclip.models.heads.projection_head import ImageProjectionHead, TextProjectionHead
from mmmaskclip.models.heads.prototype_head import PrototypeHead

__all__ = ['ImageProjectionHead', 'PrototypeHead', 'TextProjectionHead']
