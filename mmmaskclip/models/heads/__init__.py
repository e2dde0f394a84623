from mmmaskclip.models.heads.attention_pool_head import AttentionPoolProjectionHead
from mmmaskclip.models.heads.float32_classification import Float32LinearClsHead
from mmmaskclip.models.heads.projection_head import (
    ClassAndPatchesProjectionHead,
    ImageProjectionHead,
    TextProjectionHead,
)
from mmmaskclip.models.heads.prototype_head import PrototypeHead

__all__ = [
    'AttentionPoolProjectionHead',
    'ClassAndPatchesProjectionHead',
    'Float32LinearClsHead',
    'ImageProjectionHead',
    'PrototypeHead',
    'TextProjectionHead',
]
