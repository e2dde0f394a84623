"""MetaCLIP 2 worldwide, ViT-H/14 with QuickGELU, 901,629 words of XLM-V; OpenCLIP's or Hugging Face's file.

python tools/test.py configs/zero_shot/suite_slip26.py open_clip_model.safetensors \
    --model configs/pretrained/metaclip2_vith14.py

The tokenizer.json of facebook/xlm-v-base at Hugging Face belongs in data/tokenizers/xlm_v/. Here: not run.
"""

_base_ = 'openclip_vith14.py'

model = dict(
    image_encoder=dict(quick_gelu=True),
    text_encoder=dict(
        vocab_size=901629,
        quick_gelu=True,
        # XLM-V's end; its highest id is a word.
        pool=2,
        tokenizer=dict(file='data/tokenizers/xlm_v/tokenizer.json', pad_id=1),
    ),
)
