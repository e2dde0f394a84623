"""Pictures of a model's outputs: similarity maps of words, and segmentations."""

from mmmaskclip.visualization.segmentation_overlay import SegmentationRow, class_colours, draw_segmentations, overlay
from mmmaskclip.visualization.similarity_maps import SimilarityRow, draw_similarity_maps, lay_out_similarity_maps

__all__ = [
    'SegmentationRow',
    'SimilarityRow',
    'class_colours',
    'draw_segmentations',
    'draw_similarity_maps',
    'lay_out_similarity_maps',
    'overlay',
]
