"""Towers of transformers: what it computes on random weights is recorded, because it is no dependency.

``recorded/NAME.json`` has the names and shapes of the file that transformers saves, its ``config.json``, and what its
model gives. Weights and inputs are NumPy's legacy random numbers, which are the same in every version. To record anew,
with transformers installed: ``python tests/recorded_towers.py tests/recorded``.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

NAMES = ('transformers_tipsv2', 'transformers_tipsv2_gated', 'transformers_siglip2_naflex')
SIZES = {'square': (16, 16), 'wide': (12, 28)}


def random_weights(shapes):
    """Weights by name: norms and scales around 1, all else around 0."""
    random = np.random.RandomState(0)
    weights = {}
    for name, shape in sorted(shapes.items()):
        value = random.standard_normal(shape) * 0.2
        if len(shape) == 1 and ('norm' in name or 'ln_' in name) and name.endswith('weight') or 'gamma' in name:
            value = value + 1
        if name == 'temperature':
            value = np.array(0.07)
        weights[name] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return weights


def images(size):
    return torch.from_numpy(np.random.RandomState(1).standard_normal((2, 3, *size)).astype(np.float32))


def word_ids(length):
    """Captions of ten words, of four, and of one; zeros are the padding."""
    ids = np.random.RandomState(2).randint(2, 50, (3, length))
    for row, end in zip(ids, (10, 4, 1), strict=True):
        row[end:] = 0
    return torch.from_numpy(ids)


def numbers(tensor):
    return [round(value, 7) for value in tensor.flatten().tolist()]


def _tips(gated):
    from transformers import Tipsv2Config, Tipsv2Model

    vision = dict(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, patch_size=4, image_size=16, use_swiglu_ffn=gated,
        num_register_tokens=1,
    )  # fmt: skip
    text = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=50)
    return Tipsv2Model(Tipsv2Config(vision_config=vision, text_config=text))


def _naflex():
    from transformers import Siglip2Config, Siglip2Model

    vision = dict(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, patch_size=4, num_patches=16, intermediate_size=24
    )
    text = dict(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, vocab_size=50,
        max_position_embeddings=10, bos_token_id=1, eos_token_id=1,
    )  # fmt: skip
    return Siglip2Model(Siglip2Config(vision_config=vision, text_config=text))


def _as_patches(pixels):
    """The inputs of Siglip2Model: rows of pixels, row by row of patches, and the grid."""
    from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

    patches = torch.stack([convert_image_to_patches(image, 4) for image in pixels])
    grid = torch.tensor([pixels.shape[2] // 4, pixels.shape[3] // 4]).expand(len(pixels), 2)
    return dict(
        pixel_values=patches, spatial_shapes=grid, pixel_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long)
    )


@torch.no_grad()
def record(folder):
    import tempfile

    import transformers
    from safetensors.torch import load_file, save_file

    for name, model in zip(NAMES, (_tips(False), _tips(True), _naflex()), strict=True):
        naflex = 'naflex' in name
        with tempfile.TemporaryDirectory() as saved:
            model.save_pretrained(saved)
            file = Path(saved, 'model.safetensors')
            shapes = {key: list(value.shape) for key, value in load_file(file).items()}
            save_file(random_weights(shapes), file, metadata={'format': 'pt'})
            config = json.loads(Path(saved, 'config.json').read_text())
            model = type(model).from_pretrained(saved, attn_implementation='eager').eval()
        ids = word_ids(10 if naflex else 64)
        outputs = {}
        for size, shape in SIZES.items():
            pixels = images(shape)
            inputs = _as_patches(pixels) if naflex else dict(pixel_values=pixels)
            if not naflex:
                inputs['attention_mask'] = (ids != 0).long()
            out = model(input_ids=ids, **inputs)
            tokens = out.vision_model_output.last_hidden_state
            outputs[size] = dict(
                image=numbers(out.image_embeds), logits=numbers(out.logits_per_image),
                patches=numbers(tokens if naflex else tokens[:, 2:]),
            )  # fmt: skip
        content = dict(
            library=f'transformers {transformers.__version__}', shapes=shapes, config=config,
            text=numbers(out.text_embeds), outputs=outputs,
        )  # fmt: skip
        Path(folder, f'{name}.json').write_text(json.dumps(content, separators=(',', ':')) + '\n')


def photo(height, width):
    return np.random.RandomState(3).randint(256, size=(height, width, 3)).astype(np.uint8)


def record_naflex_images(folder):
    """What SigLIP 2's processor makes of images of many shapes: their size, and of two of them the pixels."""
    import transformers
    from PIL import Image
    from transformers.models.siglip2.image_processing_siglip2 import (
        Siglip2ImageProcessor,
        get_image_size_for_max_num_patches,
    )

    random = np.random.RandomState(4)
    shapes = [(1, 900), (3000, 7), (17, 17), (256, 256), (480, 640), (4000, 3000)]
    shapes += [tuple(side) for side in random.randint(3, 3000, (60, 2)).tolist()]
    sizes = [
        [*shape, patch, budget, *get_image_size_for_max_num_patches(*shape, patch, budget)]
        for shape in shapes
        for patch, budget in ((16, 256), (16, 784), (14, 100))
    ]
    processor, images = Siglip2ImageProcessor(patch_size=4, max_num_patches=12), []
    for shape in ((19, 31), (50, 20)):
        done = processor(images=[Image.fromarray(photo(*shape))], return_tensors='pt')
        grid = done['spatial_shapes'][0].tolist()
        pixels = done['pixel_values'][0, : grid[0] * grid[1]]
        images.append(dict(shape=shape, grid=grid, pixels=[round(value, 4) for value in pixels.flatten().tolist()]))
    content = dict(library=f'transformers {transformers.__version__}', sizes=sizes, images=images)
    Path(folder, 'transformers_siglip2_images.json').write_text(json.dumps(content, separators=(',', ':')) + '\n')


if __name__ == '__main__':
    record(sys.argv[1])
    record_naflex_images(sys.argv[1])
