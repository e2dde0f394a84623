"""COCO's AP for classes with boxes in training (base) and without (novel).

``mmmaskclip.evaluation`` does not import this module, because mmdet takes seconds. A config names it in
``custom_imports``, after ``mmmaskclip.models``, which provides mmdet's operators.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.evaluation import CocoMetric

from mmmaskclip.datasets.evaluation.open_vocabulary_coco import CocoByName
from mmmaskclip.datasets.prompts import refuse_string
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class OpenVocabularyCocoMetric(CocoMetric):
    """mmdet's ``CocoMetric``, plus AP and AP50 of the base classes alone and of the novel classes alone.

    In every case the detector chooses among all classes: the "generalized" setting of OVR-CNN (Zareian et al., CVPR
    2021), which reports AP50. Reported in [0, 1], for boxes and likewise for masks (``segm``): mmdet's ``bbox_mAP``,
    ``bbox_mAP_50``, ... of all classes, and ``base_bbox_mAP``, ``base_bbox_mAP_50``, ``novel_bbox_mAP``,
    ``novel_bbox_mAP_50``. As in COCO's tools, a group without detections has 0, and a group without objects -1.

    Args:
        novel: Names of the novel classes; the other ones of the data set are base.
        metric: ``'bbox'``, ``'segm'`` or a list of both. Defaults to both.
        **kwargs: As ``mmdet.CocoMetric``.

    Raises:
        TypeError: If ``novel`` is one string.
        ValueError: If ``metric`` is another one. When the loop is built, which sets ``dataset_meta``: if the data set
            lacks a novel class, or the annotation file lacks a class.
    """

    def __init__(self, novel: Sequence[str], metric: str | Sequence[str] = ('bbox', 'segm'), **kwargs: Any) -> None:
        metrics = [metric] if isinstance(metric, str) else list(metric)
        if other := sorted(set(metrics) - {'bbox', 'segm'}):
            raise ValueError(f"metric={other}: base and novel classes are told apart for 'bbox' and 'segm' only")
        refuse_string(novel, 'novel')
        super().__init__(metric=metrics, **kwargs)
        self.novel = frozenset(novel)

    @property
    def dataset_meta(self) -> Any:
        """mmengine's facts about the data set: ``classes``, in the order of the labels."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: Any) -> None:
        if unknown := sorted(self.novel - set(meta['classes'])):
            raise ValueError(
                f"novel names {unknown}, which are not among the data set's classes: correct one of the two"
            )
        if self._coco_api is not None:
            CocoByName.get_cat_ids(self._coco_api, meta['classes'])
        self._dataset_meta = meta

    def compute_metrics(self, results: list) -> dict[str, float]:
        """AP of all classes, the base and the novel ones.

        Args:
            results: For each image its ground truth and prediction, from ``process``.
        """
        meta = self.dataset_meta
        classes = meta['classes']
        # mmdet counts labels in the order of the annotation file.
        results, classes = self._in_file_order(results, classes)
        self.dataset_meta = {**meta, 'classes': classes}
        try:
            return self._compute(results, classes)
        finally:
            self.dataset_meta = meta

    def _in_file_order(self, results: list, classes: Sequence[str]) -> tuple[list, list[str]]:
        """Results and class names, with labels renumbered to the annotation file's order of classes."""
        if self._coco_api is None:
            return results, list(classes)
        chosen = set(CocoByName.get_cat_ids(self._coco_api, classes))
        in_file = [one['name'] for one in self._coco_api.dataset['categories'] if one['id'] in chosen]
        position = np.array([in_file.index(name) for name in classes])
        return [(gt, {**pred, 'labels': position[pred['labels']]}) for gt, pred in results], in_file

    def _compute(self, results: list, classes: Sequence[str]) -> dict[str, float]:
        metrics = dict(super().compute_metrics(results))
        if self.format_only:
            return metrics
        # What mmdet's method reads; the file with the results stays that of all classes.
        settings = ('cat_ids', 'metric_items', 'outfile_prefix', 'classwise')
        saved = {name: getattr(self, name) for name in settings}
        self.__dict__.update(metric_items=['mAP', 'mAP_50'], outfile_prefix=None, classwise=False)
        try:
            for group in ('base', 'novel'):
                labels = [label for label, name in enumerate(classes) if (name in self.novel) == (group == 'novel')]
                metrics.update({f'{group}_{kind}_{item}': 0.0 for kind in self.metrics for item in self.metric_items})
                self.cat_ids = [saved['cat_ids'][label] for label in labels]
                if labels:
                    of_group = super().compute_metrics([(gt, _only(pred, labels)) for gt, pred in results])
                    metrics.update({f'{group}_{name}': value for name, value in of_group.items()})
        finally:
            self.__dict__.update(saved)
        return metrics


def _only(prediction: dict, labels: Sequence[int]) -> dict:
    """The detections of some classes, numbered as in ``labels``: for mmdet a label counts the categories evaluated."""
    kept = np.flatnonzero(np.isin(prediction['labels'], labels))
    chosen = {name: prediction[name][kept] for name in ('bboxes', 'scores', 'mask_scores') if name in prediction}
    chosen['labels'] = np.searchsorted(labels, prediction['labels'][kept])
    if 'masks' in prediction:
        chosen['masks'] = [prediction['masks'][index] for index in kept]
    return {'img_id': prediction['img_id'], **chosen}
