"""Dense tuning of CLIP with small patches on generated scenes: the output learns what the read-out 'value' knows.

python tools/train.py configs/dense_tune/read_out_vitxs8_scenes.py --cfg-options load_from=WEIGHTS

WEIGHTS is a checkpoint of configs/clip/vitxs8_scenes.py. All values are ours. Not run.
"""

_base_ = './local_vitxs8_scenes.py'

model = dict(objectives=dict(local=None, read_out=dict(type='ReadOutDistillation', read_out='value', weight=2.0)))
