"""Zero-shot segmentation: a pretrained model on mmseg's data sets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from mmengine.model import is_model_wrapper
from torch.utils.data import DataLoader

from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.registry import LOOPS
from mmmaskclip.utils.store import together


@LOOPS.register_module()
class ZeroShotSegmentationLoop(EvaluationLoop):
    """Evaluates a pretraining model on mmseg's data sets with mmseg's metrics; serves as ``test_cfg`` and ``val_cfg``.

    Config and checkpoints keep the pretraining model. For every task the loop wraps the model, with its current
    weights, in a ``ZeroShotSegmentor``.

    Args:
        runner: The runner.
        dataloader: As for :class:`EvaluationLoop`, with data sets of mmseg.
        evaluator: As for :class:`EvaluationLoop`, with metrics of mmseg.
        segmentor: Arguments of :class:`~.segmentor.ZeroShotSegmentor` without ``pretrainer``; ``classes`` defaults to
            the classes of the data set.
        num_images: Number of images that each data set must have, or several allowed numbers. Default: any number above
            0.

    Raises:
        FileNotFoundError: If the ``data_root`` of a data set does not exist.
        ValueError: If a data set has another number of images; in :meth:`run`, if segmentor and data set differ in the
            number of classes, or in their order.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        segmentor: dict,
        num_images: int | Sequence[int] | None = None,
    ) -> None:
        for loader in [dataloader] if 'dataset' in dataloader else dataloader.values():
            root = isinstance(loader, Mapping) and loader['dataset'].get('data_root')
            if root and not Path(root).is_dir():
                raise FileNotFoundError(
                    f'There is no data set in {root!r}: get it as docs/evaluation.md says, or set data_root in '
                    'test_dataloader to its folder.'
                )
        super().__init__(runner, dataloader, evaluator)
        self.segmentor = dict(segmentor)
        allowed = [num_images] if isinstance(num_images, int) else list(num_images or ())
        for task, loader in self.dataloaders.items():
            dataset: Any = loader.dataset
            size = len(dataset)
            if size == 0 or (allowed and size not in allowed):
                raise ValueError(
                    f'The data set of task {task!r} has {size} images, but must have '
                    f'{" or ".join(map(str, allowed)) or "some"}: check its split and folders '
                    f'(data_root={dataset.data_root!r}), or set test_cfg.num_images.'
                )

    def _run_task(self, task: str, loader: DataLoader, mode: str, done: int) -> None:
        # A local import: runs without segmentation do not need mmseg.
        from mmmaskclip.models.open_vocabulary.segmentor import ZeroShotSegmentor

        model, dataset = self.runner.model, cast(Any, loader.dataset)
        names = dataset.metainfo['classes']
        segmentor = ZeroShotSegmentor(
            model.module if is_model_wrapper(model) else model, **{'classes': names, **self.segmentor}
        )
        if segmentor.num_classes != len(names):
            raise ValueError(
                f'segmentor.classes are {segmentor.num_classes} (the background included), but the data set of task '
                f'{task!r} has {len(names)}: {", ".join(names[:5])}, ...'
            )
        segmentor.prompts.check_order(names, 'segmentor.classes')
        evaluator = self.evaluators[task]
        with together(f'evaluating {task}'):
            for batch_idx, data_batch in enumerate(loader, done):
                self.runner.call_hook(f'before_{mode}_iter', batch_idx=batch_idx, data_batch=data_batch)
                outputs = segmentor.test_step(data_batch)
                evaluator.process(data_samples=outputs, data_batch=data_batch)
                self.runner.call_hook(f'after_{mode}_iter', batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)
