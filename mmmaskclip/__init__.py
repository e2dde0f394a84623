"""MaskCLIP: masked self-distillation for contrastive language-image pretraining (CVPR 2023), and its neighbours."""

from mmmaskclip.startup.dependencies import check_dependencies
from mmmaskclip.startup.mmcv_ops import provide_mmcv_ops
from mmmaskclip.startup.multimodal import leave_out_multimodal
from mmmaskclip.startup.quiet_imports import quiet_imports
from mmmaskclip.version import __version__

# Before anything is imported from them, so that the message is this one and not an AttributeError deep inside.
check_dependencies()
quiet_imports()
leave_out_multimodal()
# Here already: mmpretrain and mmseg try to import mmdet, which then keeps stubs in place of the operators it misses.
provide_mmcv_ops()

__all__ = ['__version__']
