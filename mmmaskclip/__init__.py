"""MaskCLIP: masked self-distillation for contrastive language-image pretraining (CVPR 2023), and its neighbours."""

from .version import __version__

__all__ = ['__version__']
