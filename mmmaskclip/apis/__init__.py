"""The model in a few lines of Python."""

from .inferencer import ImageTextInferencer

__all__ = ['ImageTextInferencer']
