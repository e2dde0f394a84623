"""A folder as a user's is who follows the documents: configs, a few images of each kind of data, no weights yet."""

import io
import json
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from one_layer import shrink
from paths import CONFIGS, ROOT, load_module
from PIL import Image
from webdataset import TarWriter

from mmmaskclip.cli.shipped import find_config
from mmmaskclip.datasets.evaluation.zero_shot_sets import ZERO_SHOT_SETS
from mmmaskclip.datasets.prompts import load_prompts
from mmmaskclip.registry import MODELS

# What documents write for a file or folder of the user's.
CONFIG = 'configs/maskclip/vitxs16_scenes_v1.py'
PLACEHOLDERS = dict.fromkeys(['CONFIG', 'A', 'B'], CONFIG) | {
    'GPUS': '2',
    'PATH': 'photos',
    # Two runs that README's commands have made by then.
    'work_dirs/run_a': 'work_dirs/maskclip/vitt16_flickr8k_v1',
    'work_dirs/run_b': 'work_dirs/maskclip/vitt16_own_pairs_v1',
    'configs/retrieval/NAME.py': 'configs/retrieval/flickr8k.py',
    'configs/zero_shot_seg/NAME.py': 'configs/zero_shot_seg/camvid_maskclip.py',
}


def furnish(folder: Path) -> None:
    """Put configs, photographs, pairs and evaluation sets of two to twenty images into a folder."""
    (folder / 'configs').symlink_to(CONFIGS)
    (folder / 'tools').symlink_to(ROOT / 'tools')
    (folder / 'docs').symlink_to(ROOT / 'docs')
    for name in ('a', 'b', 'photo', 'astronaut', 'chelsea', *(f'photos/{index}' for index in range(8))):
        path = folder / f'{name}.jpg'
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(_photo(len(name)))
        path.with_suffix('.txt').write_text(f'a photo of {path.stem}')
    for part in ('train', 'val'):
        _write_pairs(folder / f'FOLDER/{part}-00000.tar')
    for name, link in (('DATA', 'data'), ('data/my_pairs', '../FOLDER')):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(link)
    for part in ('train', 'dev'):
        _write_pairs(folder / f'data/flickr8k/{part}-00000.tar')
    layouts = load_module('tests/test_datasets/test_evaluation/classification_layouts.py')
    (folder / 'data/zero_shot').mkdir()
    for name in ('cifar10', 'cifar10_folder'):
        layouts.write(ZERO_SHOT_SETS[name], folder / 'data/zero_shot', load_prompts('cifar10').classes)
    for name in ('images', 'masks'):
        (folder / f'data/camvid/{name}/test').mkdir(parents=True)
    for index in range(2):
        (folder / f'data/camvid/images/test/{index}.jpg').write_bytes(_photo(index))
        Image.fromarray(np.full((60, 80), index, np.uint8)).save(folder / f'data/camvid/masks/test/{index}.png')
    _write_coco(folder / 'data/coco_tiny')


def _photo(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, 'JPEG')
    return buffer.getvalue()


def _write_pairs(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with TarWriter(str(path)) as writer:
        for index in range(4):
            captions = [f'photo {index} said {number} times' for number in range(5)]
            sample = {'jpg': _photo(index), 'txt': captions[0], 'json': {'captions': captions}}
            writer.write({'__key__': f'{index:09d}', **sample})


def _write_coco(folder: Path) -> None:
    (folder / 'annotations').mkdir(parents=True)
    (folder / 'val2017').mkdir()
    names = [synonyms[0] for synonyms in load_prompts('coco80').classes]
    (folder / 'val2017/1.jpg').write_bytes(_photo(0))
    box, outline = [10, 10, 40, 30], [[10, 10, 50, 10, 50, 40, 10, 40]]
    thing = dict(id=1, image_id=1, category_id=1, bbox=box, segmentation=outline, area=1200, iscrowd=0)
    content = dict(
        images=[dict(id=1, file_name='1.jpg', height=60, width=80)],
        annotations=[thing],
        categories=[dict(id=index, name=name) for index, name in enumerate(names, 1)],
    )
    (folder / 'annotations/instances_val2017.json').write_text(json.dumps(content))


def make_small(cfg: Config) -> None:
    """Leave of a shipped config one layer per tower, one epoch, two images per step, and no promised number of images.

    Data at the papers' scale becomes the few pairs of the folder. What a step computes stays.
    """
    if cfg.get('model') and cfg.model.get('type') == 'ImageTextPretrainer' and 'image_encoder' in cfg.model:
        shrink(cfg.model)
    loader = cfg.get('train_dataloader')
    if cfg.get('train_cfg') and loader and 'dataset' in loader:
        if loader.dataset.get('urls') and 'laion' in str(loader.dataset.urls):
            loader.dataset.urls = 'data/flickr8k/train-*.tar'
            cfg.default_hooks.checkpoint.update(interval=-1, save_last=False)  # a gigabyte
        cfg.train_cfg.update(max_epochs=1, val_interval=1)
        cfg.default_hooks.logger.interval = 1
    if cfg.get('visualizer'):
        cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    for node in (loader, cfg.get('val_dataloader'), cfg.get('test_dataloader')):
        _few(node)
    for node in (cfg.get('test_evaluator'), cfg.get('val_evaluator'), cfg.get('test_cfg')):
        _any_number(node)


def _few(node: object) -> None:
    if isinstance(node, dict) and 'dataset' in node:
        node.update(batch_size=2, num_workers=0, persistent_workers=False, prefetch_factor=None, pin_memory=False)
        if 'num_samples' in node['dataset']:
            node['dataset']['num_samples'] = None
    elif isinstance(node, dict):
        for value in node.values():
            _few(value)


def _any_number(node: object) -> None:
    if isinstance(node, dict):
        node.pop('num_images', None)
        for value in node.values():
            _any_number(value)


def write_weights(path: Path, config: str) -> None:
    """Random weights of a config's model, with its text as a checkpoint has it."""
    model: ConfigDict = Config.fromfile(find_config(config)).model
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f'model = {model.to_dict()!r}'
    torch.save({'state_dict': MODELS.build(model).state_dict(), 'meta': {'cfg': text}}, path)
