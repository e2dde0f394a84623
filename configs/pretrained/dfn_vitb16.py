"""DFN, ViT-B/16, Apple's dfn2b with QuickGELU; OpenCLIP's file (apple/DFN2B-CLIP-ViT-B-16).

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/dfn_vitb16.py

The tower, the activation and the pixels are those of OpenAI's. Here: not run.
"""

_base_ = 'openai_vitb16.py'
