from mmmaskclip.models.backbones.dino_text_tower import DinoTextTower
from mmmaskclip.models.backbones.local_vision_transformer import LocalVisionTransformer
from mmmaskclip.models.backbones.text_transformer import CLIPTextTransformer
from mmmaskclip.models.backbones.timm_tower import TimmTower
from mmmaskclip.models.backbones.transformer_block import MaskedBlock, TransformerBlock, gather_tokens
from mmmaskclip.models.backbones.vision_transformer import CLIPVisionTransformer
from mmmaskclip.models.backbones.whole_image_tower import WholeImageTower

__all__ = [
    'CLIPTextTransformer',
    'CLIPVisionTransformer',
    'DinoTextTower',
    'LocalVisionTransformer',
    'MaskedBlock',
    'TimmTower',
    'TransformerBlock',
    'WholeImageTower',
    'gather_tokens',
]
