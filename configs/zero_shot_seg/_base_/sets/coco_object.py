# Layout of TCL: data/coco_stuff164k/images/val2017 and annotations/val2017/*_instanceTrainIds.png, by TCL's
# convert_dataset/convert_coco_object.py.
images = dict(
    type='COCOObjectDataset',
    data_root='data/coco_stuff164k',
    data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
)
