"""What tests of exports share."""

import pytest
import torch

from mmmaskclip.registry import MODELS


@pytest.fixture
def build(tiny_model_cfg):
    """A function that builds a tiny model; biases and positions are not the constants they start at."""

    def model(pool='mean', quick_gelu=False, sigmoid=False, **image):
        cfg = tiny_model_cfg()
        if sigmoid:
            cfg['objectives'] = dict(contrast=dict(type='ImageTextContrast', loss=dict(type='SigmoidLoss')))
        cfg['image_encoder'].update(image, quick_gelu=quick_gelu)
        cfg['image_projection']['pool'] = pool
        # All ids that captions have; heads are narrower than the 64 channels of published towers.
        cfg['text_encoder'].update(vocab_size=49408, quick_gelu=quick_gelu, context_length=24)
        cfg['data_preprocessor'].update(mean=[120, 110, 100], std=[60, 70, 80], interpolation='bicubic')
        torch.manual_seed(0)
        built = MODELS.build(cfg)
        built.init_weights()
        for parameter in built.parameters():
            if parameter.ndim != 2:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        return built.eval().requires_grad_(False)

    return model
