"""mmseg's decode heads of ours. Not imported with ``mmmaskclip.models``: mmseg takes seconds to import."""

from mmmaskclip.models.decode_heads.zero_shot_seg_head import ZeroShotSegHead

__all__ = ['ZeroShotSegHead']
