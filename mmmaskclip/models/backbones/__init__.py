from mmmaskclip.models.backbones.text_transformer import CLIPTextTransformer
from mmmaskclip.models.backbones.vision_transformer import CLIPVisionTransformer, gather_tokens

__all__ = ['CLIPTextTransformer', 'CLIPVisionTransformer', 'gather_tokens']
