"""MaskCLIP v1 on your own pairs, on one small machine: ViT-Ti/16 at 112 px, batch 64, validation on pairs held out.

MMMASKCLIP_PAIRS=FOLDER python tools/train.py configs/maskclip/vitt16_own_pairs_v1.py

FOLDER has tar shards as img2dataset writes them, train-*.tar to train on and val-*.tar to validate on (by default it is
data/my_pairs). The length is one line, train_cfg.max_epochs: the schedule ends with it. Learning rate and batch are
those of vitt16_flickr8k_v1.py, for one GPU or two cores. Not run.
"""

_base_ = 'vitt16_flickr8k_v1.py'

pairs = '{{$MMMASKCLIP_PAIRS:data/my_pairs}}'
train_dataloader = dict(num_workers=2, dataset=dict(urls=pairs + '/train-*.tar', caption_key='txt'))
val_dataloader = dict(retrieval=dict(dataset=dict(urls=pairs + '/val-*.tar', caption_key='txt')))
test_dataloader = val_dataloader
