from .text_transformer import CLIPTextTransformer
from .vision_transformer import CLIPVisionTransformer, ImageFeatures, gather_tokens

__all__ = ['CLIPTextTransformer', 'CLIPVisionTransformer', 'ImageFeatures', 'gather_tokens']
