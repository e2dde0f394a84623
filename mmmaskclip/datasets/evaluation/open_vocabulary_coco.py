"""Open-vocabulary COCO: novel classes have no boxes in training.

``mmmaskclip.datasets`` does not import this module, because mmdet takes seconds. A config must name it in
``custom_imports``, after ``mmmaskclip.models``, which provides mmdet's operators.
"""

from collections.abc import Sequence
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from mmmaskclip.datasets.prompts import refuse_string
from mmmaskclip.registry import DATASETS


class CocoByName(COCO):
    """An annotation file that returns categories in the order of the given names.

    mmdet's class returns ids in the file's order and silently ignores names that the file lacks.
    """

    def get_cat_ids(self, cat_names: Sequence[str] = (), sup_names: Sequence = (), cat_ids: Sequence = ()) -> list[int]:
        """Ids of the categories in the order of ``cat_names``.

        Raises:
            ValueError: If the file lacks a name or has it twice.
        """
        if not cat_names:
            return super().get_cat_ids(sup_names=sup_names, cat_ids=cat_ids)
        ids: dict[str, list[int]] = {}
        for category in self.dataset['categories']:
            ids.setdefault(category['name'], []).append(category['id'])
        if wrong := [name for name in cat_names if len(ids.get(name, ())) != 1]:
            raise ValueError(
                f'the annotation file does not have the classes {", ".join(wrong)} exactly once. It has '
                f'{", ".join(ids)}; the config has {", ".join(cat_names)}: give the config the names of the file'
            )
        return [ids[name][0] for name in cat_names]


@DATASETS.register_module()
class OpenVocabularyCocoDataset(CocoDataset):
    """mmdet's ``CocoDataset`` without the objects of novel classes.

    Labels count all classes, base and novel: a model trained on this data set can be tested on mmdet's ``CocoDataset``
    with the same ``metainfo``. With ``filter_cfg.filter_empty_gt`` an image whose objects are all novel is dropped. On
    the other images the detector treats objects of novel classes as background (the protocol of OVR-CNN, Zareian et
    al., CVPR 2021).

    Args:
        novel: Names among ``metainfo['classes']``.
        **kwargs: Arguments of ``mmdet.CocoDataset``. Label i is ``metainfo['classes'][i]``, for any order of the
            categories in the annotation file. Categories that are not among the classes are left out.

    Raises:
        TypeError: If ``novel`` is one string.
        ValueError: If a novel class is not among the classes, or the file lacks a class.
    """

    COCOAPI = CocoByName

    def __init__(self, novel: Sequence[str], *args: Any, **kwargs: Any) -> None:
        refuse_string(novel, 'novel')
        self.novel = frozenset(novel)
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotations of all images, without objects of novel classes.

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
        """Filter as mmdet does, then drop images without instances if ``filter_empty_gt`` is set.

        mmdet's filter looks into the annotation file, and therefore keeps images whose objects are all novel.
        """
        data_list = super().filter_data()
        if self.test_mode or not (self.filter_cfg or {}).get('filter_empty_gt', False):
            return data_list
        return [image for image in data_list if image['instances']]
