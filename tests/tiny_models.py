"""Tiny pretrainers with every objective, and batches for them: the one table that tests of all objectives share."""

from copy import deepcopy
from pathlib import Path

import torch

from mmmaskclip.registry import MODELS

PATCH, PATCHES, WIDTH, TEXT_WIDTH, CODEWORDS = 8, 16, 32, 16, 24
# SyncBN has no CPU kernel for several processes, and does not add up over micro-batches.
LAYER_NORM_NECK = dict(
    type='mmpretrain.NonLinearNeck',
    in_channels=WIDTH,
    hid_channels=WIDTH,
    out_channels=8,
    with_avg_pool=False,
    with_last_bn=False,
    norm_cfg=dict(type='LN'),
)

ENCODER = dict(
    type='CLIPVisionTransformer',
    arch=dict(embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=64),
    patch_size=PATCH,
    img_size=32,
)


def model(objectives: dict | None = None, drop_path_rate: float = 0.0) -> dict:
    """Config of a pretrainer with 4 x 4 patches; with contrast alone unless other objectives are given."""
    return dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
        # A copy, or what one test changes in it would be changed for all.
        image_encoder=dict(**deepcopy(ENCODER), drop_path_rate=drop_path_rate),
        image_projection=dict(type='ImageProjectionHead', in_channels=WIDTH, embed_dims=16),
        text_encoder=dict(type='CLIPTextTransformer', width=TEXT_WIDTH, num_layers=2, num_heads=2, vocab_size=100),
        text_projection=dict(type='TextProjectionHead', in_channels=TEXT_WIDTH, embed_dims=16),
        objectives=objectives or dict(contrast=dict(type='ImageTextContrast')),
    )


def move_teachers(built: torch.nn.Module) -> torch.nn.Module:
    """Makes the teachers of a built model differ from their students, or a swap of the two would not show."""
    with torch.no_grad():
        for copy in built.momentum_copies:
            for parameter in copy.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return built


def distillation(form: str = 'v1', shared_keys: bool = False, **kwargs) -> dict:
    """Config of MaskedSelfDistillation for it: ``'v1'`` with regression or ``'cvpr'`` with codewords."""
    parts = dict(loss=dict(type='FeatureRegressionLoss'))
    if form == 'cvpr':
        parts = dict(
            head=dict(type='PrototypeHead', in_channels=WIDTH, hidden_channels=WIDTH, **_PROTOTYPES),
            loss=dict(type='CodewordLoss', num_prototypes=CODEWORDS),
        )
    decoder = dict(type='MaskedTokenDecoder', width=WIDTH, num_patches=PATCHES, num_heads=2, shared_keys=shared_keys)
    return dict(type='MaskedSelfDistillation', decoder=decoder, **parts, **kwargs)


_TOKENIZER = dict(type='DALLETokenizer', encoder=dict(n_hid=8, n_blk_per_group=1, vocab_size=32))
_PROTOTYPES = dict(num_prototypes=CODEWORDS, bottleneck_channels=8)


def objectives(folder: Path) -> dict[str, dict]:
    """Configs of ``objectives`` by name. Every objective and every loss of the package is in one of them.

    Args:
        folder: Where :func:`write_weights` has written the image tokenizer and the image tower of two of them.
    """
    contrast = dict(type='ImageTextContrast')
    words = dict(type='TextDecoder', width=TEXT_WIDTH, num_heads=2, depth=1, vocab_size=100)
    prototypes = dict(type='PrototypeHead', in_channels=16, hidden_channels=32, **_PROTOTYPES)
    pixels = dict(
        type='mmpretrain.MAEPretrainDecoder',
        num_patches=PATCHES,
        patch_size=PATCH,
        embed_dim=WIDTH,
        decoder_embed_dim=WIDTH,
        decoder_depth=1,
        decoder_num_heads=2,
        mlp_ratio=2,
    )
    tokenizer = dict(**_TOKENIZER, checkpoint=str(folder / 'dalle.pth'))
    frozen = dict(encoder=ENCODER, checkpoint=str(folder / 'tower.pth'))
    hidden = dict(mask=dict(type='RandomMask', ratio=0.4), in_channels=WIDTH, num_codes=32)
    return {
        'infonce': dict(contrast=contrast),
        'duplicates': dict(contrast=dict(**contrast, duplicates=('image', 'caption'))),
        'unicl': dict(contrast=dict(**contrast, loss=dict(type='UniCLLoss'))),
        'sigmoid': dict(
            contrast=dict(**contrast, loss=dict(type='SigmoidLoss', init_bias=-3.0), duplicates=('caption',))
        ),
        'image contrast': dict(contrast=contrast, simclr=dict(type='ImageContrast', head=LAYER_NORM_NECK)),
        'text pooled': dict(
            contrast=contrast, local=dict(type='TextPooledContrast', sharpness=2.0, duplicates=('image',))
        ),
        'regression': dict(contrast=contrast, distillation=distillation('v1')),
        'shared target': dict(
            contrast=contrast,
            distillation=distillation('v1', shared_keys=True, target='shared', loss_on='all', loss_share=0.5),
        ),
        'codewords': dict(
            contrast=contrast,
            distillation=distillation('cvpr'),
            mlm=dict(type='MaskedLanguageModeling', decoder=words, weight=1.0),
        ),
        'local to global': dict(
            contrast=dict(**contrast, views=('image', 'image_2')),
            local=dict(
                type='LocalToGlobalDistillation',
                head=prototypes,
                loss=dict(type='CodewordLoss', num_prototypes=CODEWORDS),
            ),
        ),
        'pixels': dict(contrast=contrast, mae=dict(type='PixelReconstruction', decoder=pixels, patch_size=PATCH)),
        'dense tuning': dict(
            temperature=dict(type='FixedTemperature'),
            preserve=dict(type='PreserveGlobal'),
            regions=dict(type='RegionCropDistillation', num_regions=2, max_grid=3),
            gram=dict(type='PatchCorrelation', teacher_image_size=48),
            read_out=dict(type='ReadOutDistillation'),
            registers=dict(type='DenoisedDistillation', frozen=frozen, num_copies=2),
            contrast=contrast,
        ),
        'visual tokens': dict(
            contrast=contrast, beit=dict(type='VisualTokenPrediction', tokenizer=tokenizer, **hidden)
        ),
    }


# The names in that table, for parametrized tests.
OBJECTIVES = tuple(objectives(Path()))


def write_weights(folder: Path) -> None:
    """Write random weights of the small image tokenizer and of an image tower into a folder."""
    torch.save(MODELS.build(_TOKENIZER).encoder.state_dict(), folder / 'dalle.pth')
    tower = MODELS.build(ENCODER)
    tower.init_weights()
    torch.save({f'image_encoder.{name}': value for name, value in tower.state_dict().items()}, folder / 'tower.pth')


def random_batch(size: int, seed: int = 0) -> dict:
    """A random batch with one view and captions of five words, as the collate function would give it."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 98, (size, 7), generator=generator, dtype=torch.int32)
    tokens[:, -1] = 99
    return dict(
        image=torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8),
        tokens=tokens,
        seed=torch.randint(0, 2**62, (size,), generator=generator),
    )


def full_batch(size: int, seed: int = 0) -> dict:
    """A batch with the views of all objectives, captions of zero to five words, and labels, of which -1 is none."""
    batch = random_batch(size, seed=10 * seed)
    for row in range(size):
        words = (5, 2, 3, 1, 4, 0, 3, 2)[row % 8]
        batch['tokens'][row, words + 1] = 99
        batch['tokens'][row, words + 2 :] = 0
    # A caption and an image that come twice, on several ranks.
    batch['tokens'][size - 1] = batch['tokens'][0]
    views = [random_batch(size, seed=10 * seed + view)['image'] for view in range(1, 6)]
    return batch | dict(
        augmented_1=views[0],
        augmented_2=views[1],
        image_2=views[2],
        local=torch.stack([view[..., :16, :16] for view in views[3:]], dim=1),
        image_id=torch.tensor([5, 3, 1, 3, 2, 7, 6, 0])[torch.arange(size) % 8],
        label=torch.tensor([4, -1, 4, 2, 4, -1, 2, 3])[torch.arange(size) % 8].roll(seed),
    )
