import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmmaskclip.analysis.cost import PartFlops, parameter_counts, step_flops
from mmmaskclip.analysis.random_batch import random_batch
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import MODELS


@pytest.fixture(scope='module', autouse=True)
def registered():
    register_all_modules()


@pytest.fixture
def config(tiny_model_cfg, distillation_cfg):
    """Returns a function that gives the config of a tiny pretrainer of 4 x 4 patches with other objectives."""

    def build(**objectives):
        model = tiny_model_cfg(dict(contrast=dict(type='ImageTextContrast'), **objectives))
        model['text_encoder']['vocab_size'] = 49408
        views = dict(image=[dict(type='torchvision/RandomResizedCrop', size=32)])
        return Config(dict(model=model, train_dataloader=dict(dataset=dict(views=views))))

    return build


# The tiny pretrainer's sizes: widths of the towers and of the embedding, layers, tokens with the class token.
IMAGE, TEXT, EMBED, LAYERS, PATCHES = 32, 16, 16, 2, 16


def blocks(tokens, width, layers, feedforward):
    """Operations of the forward pass of transformer blocks, by hand."""
    linear = 2 * tokens * width * (4 * width + 2 * feedforward)
    attention = 2 * 2 * tokens * tokens * width
    return layers * (linear + attention)


def test_towers_cost_what_one_computes_by_hand(config):
    flops = step_flops(config(), batch_size=2, caption_length=7)
    tower = blocks(PATCHES + 1, IMAGE, LAYERS, 64)
    stem = 2 * PATCHES * 3 * 8 * 8 * IMAGE
    # Backward costs twice the forward, but for the stem: nobody needs the gradient of the pixels.
    image = 3 * tower + 2 * stem + 3 * 2 * IMAGE * EMBED
    text = 3 * blocks(7, TEXT, LAYERS, 4 * TEXT) + 3 * 2 * TEXT * EMBED
    # Two directions, each with two more products in its backward pass.
    losses = 2 * 3 * 2 * EMBED * 2
    assert flops == {'image tower': image, 'text tower': text, 'losses': losses}


def test_masked_pass_teacher_and_decoder_are_told_apart(config, distillation_cfg):
    clip = step_flops(config(), 2, 7)
    flops = step_flops(config(distillation=distillation_cfg('v1')), 2, 7)
    assert flops['image tower'] == clip['image tower']
    assert flops['text tower'] == clip['text tower']
    assert flops['second image pass'] == 3 * blocks(4 + 1, IMAGE, LAYERS, 64)
    # Forward only, stem included.
    assert flops['targets'] == blocks(PATCHES + 1, IMAGE, LAYERS, 64) + 2 * PATCHES * 3 * 8 * 8 * IMAGE
    assert 0 < flops['decoders, heads'] <= 3 * blocks(PATCHES + 1, IMAGE, 1, 4 * IMAGE)
    shared = step_flops(config(distillation=distillation_cfg('v1', target='shared')), 2, 7)
    assert 'targets' not in shared
    assert shared['image tower'] == clip['image tower']


def test_shorter_captions_cost_less_text_only(config):
    long, short = (step_flops(config(), 2, length) for length in (77, 18))
    assert short['text tower'] < 18 / 77 * long['text tower']
    assert short['image tower'] == long['image tower']


@pytest.mark.parametrize('form', ['v1', 'cvpr'])
def test_meta_tensors_count_what_real_ones_do(config, distillation_cfg, form):
    cfg = config(distillation=distillation_cfg(form))
    assert step_flops(cfg, 2, 7) == step_flops(cfg, 2, 7, device='cpu')


def test_total_is_that_of_torchs_counter(config, distillation_cfg):
    cfg = config(distillation=distillation_cfg('cvpr'))
    model = MODELS.build(cfg.model).train()
    batch = model.data_preprocessor(random_batch(cfg, 2, 7), training=True)
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        model.parse_losses(model(**batch, mode='loss'))[0].backward()
    assert 2 * sum(step_flops(cfg, 2, 7).values()) == counter.get_total_flops()


def test_backward_belongs_to_the_part_that_made_it():
    counter, first, second = PartFlops(), nn.Linear(3, 5), nn.Linear(5, 7)
    x = torch.randn(2, 3)
    with counter:
        with counter.part('a'):
            y = first(x)
        with counter.part('b'):
            z = second(y)
            with counter.part('a'):
                z = z + first(x).sum()
        z.sum().backward()
    assert counter.flops == {'a': 2 * (2 * 2 * 2 * 3 * 5), 'b': 3 * 2 * 2 * 5 * 7}


def test_parameters_of_teacher_and_towers(config, distillation_cfg):
    clip, distilled = (parameter_counts(config(**o)) for o in ({}, {'distillation': distillation_cfg('cvpr')}))
    assert clip['trained'] == clip['all']
    assert 'targets' not in clip
    assert distilled['all'] == distilled['trained'] + distilled['targets']
    assert distilled['image tower'] == clip['image tower']
    model = MODELS.build(config(distillation=distillation_cfg('cvpr')).model)
    assert distilled['all'] == sum(p.numel() for p in model.parameters())
