"""MetaCLIP, ViT-B/16 (fullcc or 400m); OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py model.safetensors \
    --model configs/pretrained/metaclip_vitb16.py

The tower, the activation and the pixels are those of OpenAI's. Here: not run.
"""

_base_ = 'openai_vitb16.py'
