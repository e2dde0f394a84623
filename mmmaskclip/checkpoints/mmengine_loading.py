"""mmengine's ways to load a checkpoint, led through the safe reader.

mmengine unpickles a file, code included, where reading it without code fails, and always where it comes from the web.
Its ``Pretrained`` initializer only warns where nothing in the file fits. Both are reached from configs of
every toolbox (``init_cfg``, a detector's ``teacher_ckpt``, ``torchvision://resnet50``), so they are replaced at the two
places that mmengine provides for it: the loaders by address and the registry of initializers. Nothing of mmengine's
code is changed. The replacement is made by our Runner and not by ``import mmmaskclip``: a program that only uses a
model of ours beside others keeps mmengine's loading for those.
"""

from __future__ import annotations

from typing import Any

from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmengine.runner.checkpoint import CheckpointLoader
from torch import nn

from mmmaskclip.checkpoints.downloads import local_path
from mmmaskclip.checkpoints.safe_load import read_checkpoint, state_dict_of
from mmmaskclip.checkpoints.weights import load_what_fits


class SafePretrainedInit(PretrainedInit):
    """mmengine's ``Pretrained``, which reads files safely and refuses those of which nothing fits.

    Its arguments are mmengine's: ``checkpoint``, a path or an address, where a CLIP of another library is translated;
    ``prefix``, with which the module's names in the file begin, by default None: all are the module's;
    ``map_location``, unused, because tensors come from the CPU.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load; raises ValueError as :func:`~mmmaskclip.checkpoints.weights.load_what_fits` does."""
        path = local_path(self.checkpoint)
        load_what_fits(module, state_dict_of(read_checkpoint(path), path), path, self.prefix or '')


def use_safe_loading() -> None:
    """Make the rest of the process load checkpoints by the safe reader, also where mmengine loads them.

    Of every kind of address that is registered: those that the reader has no way to reach are refused.
    """
    CheckpointLoader.register_scheme(tuple(CheckpointLoader._schemes), load_from_safe_reader, force=True)
    WEIGHT_INITIALIZERS.register_module('Pretrained', force=True, module=SafePretrainedInit)


def load_from_safe_reader(filename: str, map_location: Any = None) -> dict[str, Any]:
    """A checkpoint as mmengine's loaders return it; ``map_location`` is unused, tensors come from the CPU."""
    path = local_path(filename)
    checkpoint = read_checkpoint(path)
    return {**checkpoint, 'state_dict': state_dict_of(checkpoint, path)}
