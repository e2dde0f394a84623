"""Dense tuning of CLIP, ViT-B/16, on images alone: the output learns what the read-out 'value' of the start knows.

python tools/train.py configs/dense_tune/read_out_vitb16.py --cfg-options load_from=WEIGHTS

WEIGHTS is a file of OpenCLIP or Hugging Face with GELU, as it was downloaded. The objective is ours. Not run; on scenes
read_out_vitxs8_scenes.py was.
"""

_base_ = ['../pretrained/openclip_vitb16.py', './_base_/images.py']

model = dict(
    **_base_.images_alone,
    objectives=dict(
        contrast=_base_.temperature,
        preserve=_base_.preserve,
        read_out=dict(type='ReadOutDistillation', read_out='value', weight=5.0),
    ),
)
