"""What all tests share."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from paths import DATA

# Before any test module imports mmpretrain, which would leave mmdet without operators.
import mmmaskclip  # noqa: F401

# One thread each: results do not depend on the machine, and tests do not fight over cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_scope():
    """A Runner makes its config's scope the default for the rest of the process, in the fixtures of a module too."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def data_root() -> Path:
    """Folder with the real data sets; the test is skipped, with the reason, where there is none."""
    if not DATA.is_dir():
        pytest.skip(f'no real data: {DATA} does not exist (set MMMASKCLIP_DATA)')
    return DATA


@pytest.fixture(scope='session')
def tiny_model_cfg():
    """A function that gives the config of a tiny pretrainer with 4 x 4 patches, with other objectives if wanted."""

    def build(objectives: dict | None = None) -> dict:
        return dict(
            type='ImageTextPretrainer',
            data_preprocessor=dict(type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
            image_encoder=dict(
                type='CLIPVisionTransformer',
                arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64),
                patch_size=8,
                img_size=32,
            ),
            image_projection=dict(type='ImageProjectionHead', in_channels=32, embed_dims=16),
            text_encoder=dict(type='CLIPTextTransformer', width=16, num_layers=2, num_heads=2, vocab_size=100),
            text_projection=dict(type='TextProjectionHead', in_channels=16, embed_dims=16),
            objectives=objectives or dict(contrast=dict(type='ImageTextContrast')),
        )

    return build


@pytest.fixture(scope='session')
def distillation_cfg():
    """A function that gives the config of MaskedSelfDistillation for the tiny pretrainer: ``'v1'`` or ``'cvpr'``."""

    def build(form: str = 'v1', **kwargs) -> dict:
        decoder = dict(type='MaskedTokenDecoder', width=32, num_patches=16, num_heads=2)
        if form == 'v1':
            parts = dict(loss=dict(type='FeatureRegressionLoss'))
        else:
            parts = dict(
                head=dict(
                    type='PrototypeHead', in_channels=32, num_prototypes=24, hidden_channels=32, bottleneck_channels=8
                ),
                loss=dict(type='CodewordLoss', num_prototypes=24),
            )
        return dict(type='MaskedSelfDistillation', decoder=decoder, **parts, **kwargs)

    return build


@pytest.fixture(scope='session')
def random_batch():
    """A function that gives a random batch of the tiny pretrainer's sizes, as the collate function would."""

    def build(batch_size: int, seed: int = 0) -> dict:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(1, 98, (batch_size, 7), generator=generator, dtype=torch.int32)
        tokens[:, -1] = 99
        return dict(
            image=torch.randint(0, 256, (batch_size, 3, 32, 32), generator=generator, dtype=torch.uint8),
            tokens=tokens,
            seed=torch.randint(0, 2**62, (batch_size,), generator=generator),
        )

    return build
