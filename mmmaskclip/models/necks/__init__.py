from .masked_token_decoder import MaskedTokenDecoder
from .text_decoder import TextDecoder

__all__ = ['MaskedTokenDecoder', 'TextDecoder']
