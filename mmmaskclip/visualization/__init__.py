"""Pictures of what a model sees."""

from .similarity_maps import SimilarityRow, draw_similarity_maps

__all__ = ['SimilarityRow', 'draw_similarity_maps']
