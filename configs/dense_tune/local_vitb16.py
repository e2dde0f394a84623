"""Dense tuning of CLIP, ViT-B/16, on pairs: patches pooled by captions (PACL, SPARC, FLAIR), the image embedding held.

python tools/train.py configs/dense_tune/local_vitb16.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. Pairs are those of
configs/finetune_clip. Not run.
"""

_base_ = ['../pretrained/openclip_vitb16.py', '../finetune_clip/_base_/pairs.py', './_base_/kept.py']

model = dict(
    **_base_.start,
    objectives=dict(preserve=_base_.preserve, local=dict(type='TextPooledContrast')),
)
# In place of fine-tuning's watch, which only warns.
custom_hooks = [*_base_.custom_hooks[:-1], _base_.watch]
