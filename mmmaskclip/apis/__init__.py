"""The model in a few lines of Python."""

from mmmaskclip.apis.inferencer import ImageTextInferencer

__all__ = ['ImageTextInferencer']
