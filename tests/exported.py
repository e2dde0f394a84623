"""What tests of exports share: inputs of a model, its tokenizer, and its graphs compared with itself."""

import json

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_timm import model_cfg, open_clip_model

from mmmaskclip.checkpoints.export.graphs import export_graphs
from mmmaskclip.models.from_pretrained import from_pretrained

STEM = dict(channels=(8, 8, 16), kernels=(2, 2, 4))
LOCAL = dict(type='LocalVisionTransformer')
PIXELS = dict(size=[32, 32], mode='RGB', mean=[0.5] * 3, std=[0.5] * 3, interpolation='bicubic', resize_mode='squash')


def write_tokenizer(folder):
    """A ``tokenizer.json`` of fifty words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = {word: index for index, word in enumerate(['<pad>', '<s>', *(f'w{number}' for number in range(48))])}
    Tokenizer(WordLevel(words, unk_token='<s>')).save(str(folder / 'tokenizer.json'))
    return str(folder / 'tokenizer.json')


def captions(model):
    """Token ids as the model's own tokenizer gives them: of full length where the last word is read."""
    text = model.text_encoder
    ids = torch.randint(1, text.token_embedding.num_embeddings - 1, (3, text.context_length))
    ids[:, -1] = text.token_embedding.num_embeddings - 1
    return ids


def pictures(model):
    return torch.randn(3, 3, *model.image_encoder.img_size)


def assert_traces_equal(model, folder, read_out):
    export_graphs(model, 'torchscript', folder, read_out)
    pixels, ids = pictures(model), captions(model)
    for name, given, expected in (
        ('image', pixels, model.encode_image(pixels)),
        ('text', ids, model.encode_text(ids)),
        ('dense', pixels, model.encode_dense(pixels, read_out)),
    ):
        with torch.jit.optimized_execution(False):  # which takes seconds
            found = torch.jit.load(folder / f'{name}.pt')(given)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def photo():
    """Smooth, as photographs are, and of another shape than the model's images.

    Resized it is 48 x 32: of an odd margin transformers cuts the half pixel off on the other side.
    """
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((92, 61), Image.Resampling.BICUBIC)


def released(folder, name):
    """OpenCLIP's model of a family, and ours from its folder."""
    folder.mkdir()
    theirs = open_clip_model(name)
    save_file(theirs.state_dict(), folder / 'open_clip_model.safetensors')
    (folder / 'open_clip_config.json').write_text(json.dumps(dict(model_cfg=model_cfg(name), preprocess_cfg=PIXELS)))
    write_tokenizer(folder)
    return theirs, from_pretrained(folder).model
