"""COCO whose novel classes have no boxes in training. Not imported with ``mmmaskclip.datasets``: mmdet takes seconds.

A config's ``custom_imports`` names it after ``mmmaskclip.models``, which provides mmdet's operators.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import CocoDataset

from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class OpenVocabularyCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset`` without the objects of novel classes.

    Labels are those of all classes, base and novel, so that a model trained with it is tested on mmdet's own data set
    with the same ``metainfo``. An image on which only novel classes are annotated is dropped where
    ``filter_cfg.filter_empty_gt`` is set. Objects of novel classes on the other images are background to the detector
    (the protocol of OVR-CNN, Zareian et al., CVPR 2021).

    Args:
        novel: Names among ``metainfo['classes']``.
        **kwargs: As ``mmdet.CocoDataset``. ``metainfo['classes']`` must be in the order of the annotation file's
            categories, because labels are.

    Raises:
        ValueError: If a novel class is not among the classes.
    """

    def __init__(self, novel: Sequence[str], *args: Any, **kwargs: Any) -> None:
        self.novel = frozenset(novel)
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotations of all images, without the novel classes' objects.

        Raises:
            ValueError: If a novel class is not among the classes.
        """
        classes = self.metainfo['classes']
        if unknown := sorted(self.novel - set(classes)):
            raise ValueError(f"novel names {unknown}, which are not in metainfo['classes']: correct one of the two")
        novel_labels = {label for label, name in enumerate(classes) if name in self.novel}
        data_list = super().load_data_list()
        for image in data_list:
            image['instances'] = [one for one in image['instances'] if one['bbox_label'] not in novel_labels]
        return data_list

    def filter_data(self) -> list[dict]:
        """As mmdet's, which looks into the annotation file and so keeps images whose only objects are novel."""
        data_list = super().filter_data()
        if self.test_mode or not (self.filter_cfg or {}).get('filter_empty_gt', False):
            return data_list
        return [image for image in data_list if image['instances']]
