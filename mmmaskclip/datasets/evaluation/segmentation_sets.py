"""Segmentation data sets that mmseg lacks.

A config must name this module in ``custom_imports``. ``mmmaskclip.datasets`` does not import it, because mmseg takes
seconds.
"""

from mmseg.datasets import BaseSegDataset, COCOStuffDataset

from mmmaskclip.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid in 11 classes, merged as in SegNet (Badrinarayanan et al. 2017). Mask value 11: pixels of no class.

    Args:
        img_suffix: Ending of the images. Defaults to ``'.jpg'``.
        seg_map_suffix: Ending of the masks. Defaults to ``'.png'``.
        **kwargs: Arguments of ``mmseg.BaseSegDataset``.
    """

    METAINFO = dict(
        classes=(
            'sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign', 'fence', 'car', 'pedestrian', 'bicyclist',
        ),
        palette=[
            [128, 128, 128], [128, 0, 0], [192, 192, 128], [128, 64, 128], [60, 40, 222], [128, 128, 0],
            [192, 128, 128], [64, 64, 128], [64, 0, 128], [64, 64, 0], [0, 128, 192],
        ],
    )  # fmt: skip

    def __init__(self, img_suffix: str = '.jpg', seg_map_suffix: str = '.png', **kwargs) -> None:
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)


@DATASETS.register_module()
class COCOObjectDataset(BaseSegDataset):
    """COCO-Object: the 80 things of COCO and the background (id 0), as GroupViT and TCL evaluate it.

    TCL's ``convert_dataset/convert_coco_object.py`` makes the masks from the things of COCO-Stuff's masks. They are
    ``annotations/val2017/NAME_instanceTrainIds.png``.

    Args:
        img_suffix: Ending of the images. Defaults to ``'.jpg'``.
        seg_map_suffix: Ending of the masks. Defaults to ``'_instanceTrainIds.png'``.
        background: Whether the background is a class. If False, background pixels are ignored and the things are 0 to
            79. Defaults to True.
        **kwargs: Arguments of ``mmseg.BaseSegDataset``.
    """

    # The first 80 classes of COCO-Stuff are COCO's things, in COCO's order.
    METAINFO = dict(
        classes=('background', *COCOStuffDataset.METAINFO['classes'][:80]),
        palette=[[0, 0, 0], *COCOStuffDataset.METAINFO['palette'][:80]],
    )

    def __init__(
        self,
        img_suffix: str = '.jpg',
        seg_map_suffix: str = '_instanceTrainIds.png',
        background: bool = True,
        **kwargs,
    ) -> None:
        if not background:
            kwargs['metainfo'] = {'classes': self.METAINFO['classes'][1:], **(kwargs.get('metainfo') or {})}
        super().__init__(img_suffix=img_suffix, seg_map_suffix=seg_map_suffix, **kwargs)
