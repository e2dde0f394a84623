"""mmseg's segmentors of ours. Not imported with ``mmmaskclip.models``: mmseg takes seconds to import."""

from mmmaskclip.models.segmentors.zero_shot_segmentor import ZeroShotSegmentor

__all__ = ['ZeroShotSegmentor']
