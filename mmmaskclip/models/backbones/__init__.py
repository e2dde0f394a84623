from mmmaskclip.models.backbones.text_transformer import CLIPTextTransformer
from mmmaskclip.models.backbones.vision_transformer import CLIPVisionTransformer, ImageFeatures, gather_tokens

__all__ = ['CLIPTextTransformer', 'CLIPVisionTransformer', 'ImageFeatures', 'gather_tokens']
