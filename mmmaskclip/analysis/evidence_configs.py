"""Configs of six methods on two data sets, for the comparison on one GPU. They differ in the method only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmmaskclip.datasets.evaluation.zero_shot_tasks import probe_loader, tasks

IMAGE_SIZE = 128
# Epochs in the written configs. compare_methods stretches the schedules from this length to the requested one.
_PLANNED_EPOCHS = 10
_CONFIGS = Path(__file__).parents[1] / '.mim/configs/_base_'


@dataclass(frozen=True)
class Tower:
    """Sizes of the towers.

    Attributes:
        image: mmpretrain's dict of the image tower: embed_dims, num_layers, num_heads, feedforward_channels.
        text: Width, layers and heads of the text tower.
        embed_dims: Width of the embedding.
        head: Number of codewords, hidden width and bottleneck of the codeword heads.
        decoder: Width, depth and heads of MAE's decoder.
    """

    image: dict[str, int]
    text: dict[str, int]
    embed_dims: int
    head: dict[str, int]
    decoder: dict[str, int]


TOWERS = {
    'vits16': Tower(
        dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
        dict(width=256, num_layers=6, num_heads=4),
        256,
        dict(num_prototypes=1024, hidden_channels=512, bottleneck_channels=128),
        dict(decoder_embed_dim=256, decoder_depth=4, decoder_num_heads=8),
    ),
    # For a trial on a CPU.
    'tiny': Tower(
        dict(embed_dims=64, num_layers=2, num_heads=2, feedforward_channels=128),
        dict(width=64, num_layers=1, num_heads=2),
        64,
        dict(num_prototypes=64, hidden_channels=64, bottleneck_channels=32),
        dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
    ),
}


def write_configs(
    folder: Path, data: dict[str, str], tower: str, batch_size: int, precision: str, workers: int
) -> dict[str, list[Path]]:
    """Write ``FOLDER/DATA/METHOD.py``.

    Args:
        folder: Folder to write into.
        data: Folders by name. ``scenes`` and ``flickr8k`` hold shards. ``cifar10``, which may be missing, holds the
            folders train and test, each with one folder per class.
        tower: A key of :data:`TOWERS`.
        batch_size: Pairs per step.
        precision: ``'bf16'`` or ``'fp32'``.
        workers: Processes that read data, per run.

    Returns:
        The paths by data set, CLIP's first.
    """
    written: dict[str, list[Path]] = {}
    for name in (name for name in ('scenes', 'flickr8k') if name in data):
        for method, make in METHODS.items():
            cfg = _common(name, data, tower, batch_size, precision, workers)
            make(cfg, TOWERS[tower])
            path = folder / name / f'{method}.py'
            path.parent.mkdir(parents=True, exist_ok=True)
            # Without yapf, which takes seconds per file.
            Config(cfg, format_python_code=False).dump(path)
            written.setdefault(name, []).append(path)
    return written


def _common(name: str, data: dict[str, str], tower: str, batch_size: int, precision: str, workers: int) -> dict:
    """A config of CLIP."""
    runtime = _read('default_runtime')
    schedule = _read(f'schedules/adamw_{name}')
    sizes = TOWERS[tower]
    loaders, evaluators = _scene_tasks(data) if name == 'scenes' else _flickr_tasks(data)
    scale, ratio = ((0.8, 1.0), (1.0, 1.0)) if name == 'scenes' else ((0.5, 1.0), (3 / 4, 4 / 3))
    cfg: dict[str, Any] = {**runtime, **schedule}
    cfg['optim_wrapper']['precision'] = precision
    cfg['train_cfg'] = dict(type='PretrainLoop', max_epochs=_PLANNED_EPOCHS)
    cfg['default_hooks']['logger']['interval'] = 10
    cfg['default_hooks']['checkpoint'] = dict(
        type='ReliableCheckpointHook', by_epoch=True, interval=10**6, save_last=True, max_keep_ckpts=1
    )
    cfg['model'] = dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(
            type='ImageTextPreprocessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]
        ),
        image_encoder=dict(type='CLIPVisionTransformer', arch=sizes.image, img_size=IMAGE_SIZE, patch_size=16),
        image_projection=dict(
            type='ImageProjectionHead',
            in_channels=sizes.image['embed_dims'],
            embed_dims=sizes.embed_dims,
            pool='mean',
        ),
        text_encoder=dict(type='CLIPTextTransformer', context_length=77, **sizes.text),
        text_projection=dict(type='TextProjectionHead', in_channels=sizes.text['width'], embed_dims=sizes.embed_dims),
        objectives=dict(contrast=dict(type='ImageTextContrast', loss=dict(type='InfoNCELoss', reduction='mean'))),
    )
    cfg['train_dataloader'] = dict(
        batch_size=batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(
            type='ImageTextShards',
            urls=f'{data[name]}/train-*.tar',
            caption_key='json:captions',
            views=dict(image=[dict(type='torchvision/RandomResizedCrop', size=IMAGE_SIZE, scale=scale, ratio=ratio)]),
        ),
    )
    cfg |= dict(test_dataloader=loaders, test_evaluator=evaluators, test_cfg=dict(type='EvaluationLoop'))
    return cfg


def _loader(**dataset: Any) -> dict[str, Any]:
    resize = [dict(type='torchvision/Resize', size=IMAGE_SIZE)]
    return dict(
        batch_size=200,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
        dataset=dict(type='EvaluationShards', transforms=resize, **dataset),
    )


def _scene_tasks(data: dict[str, str]) -> tuple[dict, dict]:
    """Retrieval, segmentation and pointing on scenes of several objects; zero-shot and k-NN on scenes of one."""
    root = data['scenes']
    single = _loader(urls=f'{root}/single-*.tar', label_key='cls')
    known = _loader(urls=f'{root}/known-*.tar', label_key='cls')
    loaders = dict(
        several=_loader(urls=f'{root}/val-*.tar', caption_key='json:captions', mask_key='mask.png'),
        single=single,
    )
    evaluators = dict(
        several=[
            dict(type='RetrievalRecall', topk=(1, 5), prefix='retrieval'),
            dict(type='ZeroShotSegmentation', classes='scenes', prefix='segmentation'),
            dict(type='RegionAccuracy', classes='scenes', prefix='regions'),
        ],
        single=[
            dict(type='ZeroShotClassification', classes='scenes', prefix='classification'),
            dict(
                type='KNNClassification',
                train_dataloader=dict(batch_size=200, dataset=known['dataset']),
                k=10,
                prefix='knn',
            ),
        ],
    )
    return loaders, evaluators


def _flickr_tasks(data: dict[str, str]) -> tuple[dict, dict]:
    """Retrieval on Flickr8k's dev images; zero-shot and k-NN on CIFAR-10, if its folder is given."""
    loaders = dict(retrieval=_loader(urls=f'{data["flickr8k"]}/dev-*.tar', caption_key='json:captions'))
    evaluators: dict[str, Any] = dict(retrieval=dict(type='RetrievalRecall', topk=(1, 5)))
    if 'cifar10' in data:
        more, zero_shot = tasks('cifar10_folder', data['cifar10'])
        (task,) = more
        more[task]['num_workers'] = 0
        train = {**probe_loader('cifar10_folder', data['cifar10']), 'num_workers': 0}
        loaders['cifar10'] = _at_our_size(more[task])
        evaluators['cifar10'] = [
            {**zero_shot[task], 'prefix': 'classification'},
            dict(type='KNNClassification', train_dataloader=_at_our_size(train), k=20, prefix='knn'),
        ]
    return loaders, evaluators


def _at_our_size(node: Any) -> Any:
    """A part of a config, with all resizes and crops set to :data:`IMAGE_SIZE`."""
    if isinstance(node, (list, tuple)):
        return [_at_our_size(part) for part in node]
    if not isinstance(node, dict):
        return node
    sized = str(node.get('type')).endswith(('/Resize', '/CenterCrop'))
    return {key: IMAGE_SIZE if sized and key == 'size' else _at_our_size(value) for key, value in node.items()}


def _objective(file: str, name: str) -> dict[str, Any]:
    return _read(f'objectives/{file}')[name]


def _read(name: str) -> dict[str, Any]:
    """A ``_base_`` file of the shipped configs, with the variables that it defines."""
    return Config.fromfile(_CONFIGS / f'{name}.py').to_dict()


def _decoder(tower: Tower) -> dict[str, Any]:
    return dict(
        type='MaskedTokenDecoder',
        depth=1,
        width=tower.image['embed_dims'],
        num_patches=(IMAGE_SIZE // 16) ** 2,
        num_heads=tower.image['num_heads'],
    )


def _codewords(tower: Tower, in_channels: int, **loss: Any) -> dict[str, Any]:
    return dict(
        head=dict(type='PrototypeHead', in_channels=in_channels, **tower.head),
        loss=dict(type='CodewordLoss', num_prototypes=tower.head['num_prototypes'], **loss),
    )


def _clip(cfg: dict, tower: Tower) -> None:
    """The baseline: CLIP without changes."""


def _clip_mae(cfg: dict, tower: Tower) -> None:
    decoder = dict(
        **_objective('mae', 'mae_decoder'),
        num_patches=(IMAGE_SIZE // 16) ** 2,
        embed_dim=tower.image['embed_dims'],
        **tower.decoder,
    )
    cfg['model']['objectives']['pixels'] = dict(**_objective('mae', 'pixel_reconstruction'), decoder=decoder)


def _maskclip(cfg: dict, distillation: dict, momentum: Any) -> None:
    cfg['model']['objectives']['contrast']['loss']['reduction'] = 'sum'
    cfg['model']['objectives']['distillation'] = distillation
    cfg['model']['teacher_momentum'] = momentum


def _maskclip_v1(cfg: dict, tower: Tower) -> None:
    distillation = dict(**_objective('distillation', 'distillation_v1'), decoder=_decoder(tower))
    _maskclip(cfg, distillation, dict(begin=0.99, end=0.999))


def _maskclip_cvpr(cfg: dict, tower: Tower) -> None:
    codewords = _codewords(tower, tower.image['embed_dims'])
    _maskclip(cfg, dict(**_objective('distillation', 'distillation_cvpr'), decoder=_decoder(tower), **codewords), 0.99)
    decoder = dict(type='TextDecoder', width=tower.text['width'], num_heads=tower.text['num_heads'], depth=2)
    cfg['model']['objectives']['mlm'] = dict(**_objective('distillation', 'mlm_cvpr'), decoder=decoder)


def _maskclip_fast(cfg: dict, tower: Tower) -> None:
    codewords = _codewords(tower, tower.image['embed_dims'])
    _maskclip(cfg, dict(**_objective('distillation', 'distillation_fast'), decoder=_decoder(tower), **codewords), 0.99)


def _silc(cfg: dict, tower: Tower) -> None:
    objectives = cfg['model']['objectives']
    objectives['contrast']['views'] = ('image', 'image_2')
    objectives['distillation'] = dict(
        **_objective('silc', 'local_to_global'),
        **_codewords(tower, tower.embed_dims, teacher_temperature=0.04),
    )
    cfg['model']['teacher_momentum'] = 0.966
    views = cfg['train_dataloader']['dataset']['views']
    (crop,) = views['image']
    # SILC has its own area of global crops; all other methods crop as CLIP does.
    whole = [{**crop, 'scale': (0.4, 1.0)}]
    local = {**crop, 'size': 64, 'scale': (0.05, 0.4)}
    views |= dict(image=whole, image_2=whole, local=[dict(type='RepeatCrops', count=4, transforms=[local])])


METHODS: dict[str, Callable[[dict, Tower], None]] = {
    'clip': _clip,
    'clip_mae': _clip_mae,
    'maskclip_v1': _maskclip_v1,
    'maskclip_cvpr': _maskclip_cvpr,
    'maskclip_fast': _maskclip_fast,
    'silc': _silc,
}
