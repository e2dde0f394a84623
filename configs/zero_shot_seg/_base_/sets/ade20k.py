# Layout of mmseg: data/ade/ADEChallengeData2016/{images,annotations}/validation.
images = dict(
    type='mmseg.ADE20KDataset',
    data_root='data/ade/ADEChallengeData2016',
    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
)
