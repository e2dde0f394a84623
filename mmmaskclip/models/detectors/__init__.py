"""Parts for mmdet. A detection config names this package in ``custom_imports``: it is not imported with
``mmmaskclip.models``, because mmdet takes seconds and needs operators of mmcv that may not be compiled."""

from mmmaskclip.utils.mmcv_ops import provide_mmcv_ops

# Before anything of mmdet, which imports the operators when it is loaded.
provide_mmcv_ops()

from mmmaskclip.models.detectors.text_classifier import TextClassifier  # noqa: E402

__all__ = ['TextClassifier']
