"""Pairs of a user, and a small released CLIP, as files."""

import json
from pathlib import Path

import numpy as np
import open_clip.model
import torch
from PIL import Image
from safetensors.torch import save_file

COLOURS = ('red', 'green', 'blue', 'white')


def write_pairs(folder: Path, number: int = 24) -> Path:
    """Images of one colour and noise with a caption beside each."""
    folder.mkdir()
    for index in range(number):
        generator = np.random.default_rng(index)
        pixels = generator.integers(0, 60, (40, 48, 3), dtype=np.uint8)
        pixels[..., index % 4 if index % 4 < 3 else slice(None)] += 180
        Image.fromarray(pixels).save(folder / f'{index:03}.png')
        (folder / f'{index:03}.txt').write_text(f'a {COLOURS[index % 4]} square number {index}')
    return folder


def write_weights(folder: Path) -> Path:
    """A small CLIP as OpenCLIP pushes it."""
    config = dict(
        embed_dim=16,
        vision_cfg=dict(layers=2, width=64, head_width=16, patch_size=8, image_size=32),
        text_cfg=dict(width=32, heads=4, layers=2, context_length=20),
    )
    torch.manual_seed(0)
    model = open_clip.model.CLIP(
        16, open_clip.model.CLIPVisionCfg(**config['vision_cfg']), open_clip.model.CLIPTextCfg(**config['text_cfg'])
    )
    folder.mkdir()
    save_file(model.state_dict(), folder / 'open_clip_model.safetensors')
    preprocess = dict(mean=[0.5] * 3, std=[0.5] * 3, interpolation='bicubic', resize_mode='shortest')
    (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))
    return folder
