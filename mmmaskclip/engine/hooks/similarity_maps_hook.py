"""Draws similarity maps of the same images at every validation, for TensorBoard and other backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmmaskclip.contracts import OpenVocabularyModel
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.models.backbones.mixed_read_outs import ReadOuts
from mmmaskclip.models.open_vocabulary import encode_texts
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import HOOKS

# Resolution of the drawing: about 150 pixels per map.
_DPI = 80


@HOOKS.register_module()
class SimilarityMapsHook(Hook):
    """Sends heat maps of words to the visualizer's backends after every validation, as ``similarity_maps``.

    TensorBoard shows them with a slider over the iterations; the local backend writes them to
    ``vis_data/vis_image``. The pictures are the same at every validation: some of a validation task's data set, as
    the model sees them. Nothing is computed between validations, and no random number is drawn.

    Args:
        words: A heat map is drawn for each.
        count: Number of pictures, spread evenly over the data set. Defaults to 4.
        task: The task of ``val_dataloader`` whose pictures are taken. Default: the first.
        read_out: One read-out or several, see
            :meth:`~mmmaskclip.models.pretrainers.ImageTextPretrainer.encode_dense`. Defaults to ``'patch'``.

    Raises:
        ValueError: If ``words`` or ``count`` is empty. Before training: if the model cannot embed texts or has no dense
            features, or if the validation has no such task or no images.
    """

    priority = 'LOW'

    def __init__(
        self, words: Sequence[str], count: int = 4, task: str | None = None, read_out: ReadOuts = 'patch'
    ) -> None:
        if isinstance(words, str) or not words or not all(words) or count < 1:
            raise ValueError(
                f'SimilarityMapsHook: words={words!r}, count={count}: give a list of words and at least one picture'
            )
        self.words, self.count, self.task, self.read_out = list(words), count, task, read_out

    def before_train(self, runner: Runner) -> None:
        """Refuse, before the first step, a run that has nothing to draw."""
        if runner.val_loop is None:
            return
        if not isinstance(_bare(runner), OpenVocabularyModel):
            raise ValueError(
                f'SimilarityMapsHook: {type(_bare(runner)).__name__} has no encode_dense and no encode_text: leave '
                'the hook out with default_hooks.similarity_maps=None'
            )
        self._pictures(runner)

    @torch.no_grad()
    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw. All processes compute, because sharded weights need the forward pass of each."""
        model, pictures = _bare(runner), self._pictures(runner)
        training = model.training
        model.eval()
        embeds = encode_texts(model, self.words, for_patches=True)
        drawn = []
        for picture in pictures:
            pixels = model.data_preprocessor({'image': picture[None]})['image']  # (1, 3, H, W)
            maps = dense_similarity(model.encode_dense(pixels, self.read_out), embeds)  # (1, T, h, w)
            drawn.append(upsample_patches(maps, picture.shape[1:])[0].cpu().numpy())
        model.train(training)
        if not is_main_process():
            return
        # A local import: runs without this hook need not wait for matplotlib.
        from mmmaskclip.visualization import SimilarityRow, lay_out_similarity_maps

        rows = [
            SimilarityRow('', picture.permute(1, 2, 0).numpy(), maps)
            for picture, maps in zip(pictures, drawn, strict=True)
        ]
        grid = lay_out_similarity_maps(rows, self.words)
        runner.visualizer.add_image('similarity_maps', grid.pixels(_DPI), step=runner.iter)

    def _pictures(self, runner: Runner) -> list[torch.Tensor]:
        """The pictures, uint8 (3, H, W)."""
        loop: Any = runner.val_loop
        # Loops of mmengine have one loader, without a task.
        loaders = loop.dataloaders if isinstance(loop, EvaluationLoop) else {'': loop.dataloader}
        task = next(iter(loaders)) if self.task is None else self.task
        if task not in loaders:
            raise ValueError(f'SimilarityMapsHook: task={task!r}: the validation has {", ".join(loaders)}')
        dataset: Any = loaders[task].dataset
        places = np.unique(np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int))
        samples = [dataset[int(place)] for place in places]
        if not all(isinstance(sample.get('image'), torch.Tensor) for sample in samples):
            raise ValueError(
                f"SimilarityMapsHook: the samples of {task or 'the validation'} have no 'image': name another task"
            )
        return [sample['image'] for sample in samples]


def _bare(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
