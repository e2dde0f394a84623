# Layout of mmseg: data/coco_stuff164k/images/val2017 and annotations/val2017/*_labelTrainIds.png, by mmseg's
# tools/dataset_converters/coco_stuff164k.py.
images = dict(
    type='mmseg.COCOStuffDataset',
    data_root='data/coco_stuff164k',
    data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
)
