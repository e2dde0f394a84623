# Layout of mmseg: data/cityscapes/{leftImg8bit,gtFine}/val, with mmseg's tools/dataset_converters/cityscapes.py.
images = dict(
    type='mmseg.CityscapesDataset',
    data_root='data/cityscapes',
    data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
)
