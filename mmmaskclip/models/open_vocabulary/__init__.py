"""Classes that are words: embeddings of class names, and the parts of mmseg and mmdet that compare with them.

Configs name the modules of mmseg's and mmdet's parts in ``custom_imports``: those packages take seconds to import, and
mmdet is an extra.
"""

from mmmaskclip.models.open_vocabulary.class_embeddings import encode_classes, encode_texts

__all__ = ['encode_classes', 'encode_texts']
