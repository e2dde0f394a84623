"""CLIP as in vitb16_yfcc15m.py, the same 4096 pairs contrasted in each step, on 8 processes instead of 32.

tools/dist_train.sh configs/clip/on_8_gpus_vitb16_yfcc15m.py 8

Each process has 512 pairs and computes 128 at a time; losses and gradients are those of the whole batch, at the price
of one more forward pass per step. Published: as for vitb16_yfcc15m.py. Here: not run at
full scale.
"""

_base_ = './vitb16_yfcc15m.py'

model = dict(micro_batch_size=128)
train_dataloader = dict(batch_size=512, prefetch_factor=1)
