"""mmseg's decode heads of ours. Not imported with ``mmmaskclip.models``: mmseg takes seconds to import."""

from .zero_shot_seg_head import ZeroShotSegHead

__all__ = ['ZeroShotSegHead']
