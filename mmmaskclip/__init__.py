"""MaskCLIP: masked self-distillation for contrastive language-image pretraining (CVPR 2023), and its neighbours."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from mmmaskclip.startup.dependencies import check_dependencies
from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops
from mmmaskclip.startup.multimodal import leave_out_multimodal
from mmmaskclip.startup.quiet_imports import quiet_imports
from mmmaskclip.version import __version__

if TYPE_CHECKING:
    from mmmaskclip.apis import ImageTextInferencer

# Before anything is imported from them, so that the message is this one and not an AttributeError deep inside.
check_dependencies()
quiet_imports()
leave_out_multimodal()
# Here already: mmpretrain and mmseg try to import mmdet, which then keeps stubs in place of the operators it misses.
provide_mmcv_ops()

__all__ = ['__version__', 'load']


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
