"""MaskCLIP: masked self-distillation for contrastive language-image pretraining (CVPR 2023), and its neighbours."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from mmmaskclip.startup.dependencies import check_dependencies
from mmmaskclip.startup.detection import leave_out_detection
from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops
from mmmaskclip.startup.multimodal import leave_out_multimodal
from mmmaskclip.startup.quiet_imports import quiet_imports
from mmmaskclip.version import __version__

if TYPE_CHECKING:
    from mmmaskclip.apis import ImageTextInferencer
    from mmmaskclip.cli.finetune import FineTuned

# Before anything is imported from them, so that the message is this one and not an AttributeError deep inside.
check_dependencies()
quiet_imports()
leave_out_multimodal()
leave_out_detection()
# Here already: mmseg tries to import mmdet, which then keeps stubs in place of the operators it misses.
provide_mmcv_ops()

__all__ = ['__version__', 'load', 'train']


def load(source: Any, checkpoint: str | PathLike | None = None, **options: Any) -> ImageTextInferencer:
    """A pretrained model, ready to embed, search, classify, segment and show where words are.

    Args:
        source: Weights (a file of ours, OpenAI's, OpenCLIP's or Hugging Face's, ``'hf://OWNER/REPOSITORY'`` or
            ``'openclip:ARCHITECTURE/TAG'``), or a config.
        checkpoint: Path of the weights where ``source`` is a config.
        **options: Other arguments of :class:`~mmmaskclip.apis.ImageTextInferencer`: ``device``, ``numpy``,
            ``precision``.

    Returns:
        The model.
    """
    # Here, not at the top: the registries alone need neither towers nor data sets.
    from mmmaskclip.apis import ImageTextInferencer

    return ImageTextInferencer(source, checkpoint, **options)


def train(pairs: Any, start_from: Any, out: str | PathLike, **options: Any) -> FineTuned:
    """Fine-tune a released CLIP on your own pairs, with a recipe for their number.

    The config of the training is written to ``out/config.py``, which ``tools/train.py`` takes, too. A second call with
    the same arguments resumes an interrupted training exactly, and returns the result of a finished one at once.

    Args:
        pairs: Folder or list of images with captions, or tar shards: all that ``dict(type='auto', path=...)`` reads.
        start_from: Weights, as :func:`load` takes them.
        out: Folder for config, checkpoints and logs.
        **options: ``held_out``: pairs for the held-out retrieval; default: a part of ``pairs`` is held out, at most
            1,000 images. ``zero_shot``: name of a zero-shot set below ``$MMMASKCLIP_EVAL`` (``data/zero_shot``), None
            for none; default: a small one that is there. ``epochs``, ``batch_size``, ``lr``: in place of the recipe's.
            ``lora``: train low-rank adapters of this rank, e.g. 8, in place of the towers. ``context_length``: tokens
            of captions, for which positions are stretched; default: the model's.
            ``image_key``, ``caption_key``: columns, where they are not clear. ``device``: ``'cpu'`` or ``'cuda'``.

    Returns:
        Path of the checkpoint, the metrics of the last validation, and ``load()``, which gives the model.

    Raises:
        FileNotFoundError: If there are no such pairs or weights.
        ValueError: If an argument, the pairs or the weights cannot be used, or ``out`` holds another fine-tuning.
        KeyboardInterrupt: If a signal stopped it, after everything was saved.
    """
    from mmmaskclip.cli.finetune import finetune

    return finetune(pairs, start_from, out, **options)
