from mmmaskclip.models.necks.masked_token_decoder import MaskedTokenDecoder
from mmmaskclip.models.necks.text_decoder import TextDecoder

__all__ = ['MaskedTokenDecoder', 'TextDecoder']
