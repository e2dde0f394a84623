"""configs/retrieval and configs/probes: their protocols, and runs of each on tiny copies of the layouts."""

import io
import json
import tarfile

import pytest
from mmengine.config import Config
from mmengine.runner import Runner
from paths import CONFIGS
from PIL import Image

from mmmaskclip.datasets.scenes.writer import SceneSplit, write_shards
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.registry import DATASETS


@pytest.fixture(autouse=True)
def registered():
    register_all_modules()


def run(name, model_cfg, work_dir, **options):
    cfg = Config.fromfile(CONFIGS / name)
    for loader in cfg.test_dataloader.values():
        loader.update(num_workers=0)
    cfg.merge_from_dict(options)
    cfg.model = model_cfg
    cfg.model.text_encoder.vocab_size = 49408
    cfg.work_dir, cfg.launcher = str(work_dir), 'none'
    cfg.visualizer = None
    return Runner.from_cfg(cfg).test()


def write_karpathy(path, folder, names, num_captions=6):
    images = [
        {
            **({'filepath': folder} if folder else {}),
            'filename': name,
            'split': 'train' if index == 0 else 'test',
            'sentences': [{'raw': f'picture {index} said {number} times'} for number in range(num_captions)],
        }
        for index, name in enumerate(names)
    ]
    path.write_text(json.dumps({'images': images}))


@pytest.mark.parametrize(
    ('name', 'annotations', 'folder', 'in_names'),
    [
        ('flickr30k_1k', 'flickr30k/dataset_flickr30k.json', 'flickr30k/flickr30k-images', ''),
        ('coco_5k', 'coco/dataset_coco.json', 'coco/val2014', 'val2014'),
    ],
)
def test_retrieval_in_karpathys_layout(tmp_path, monkeypatch, tiny_model_cfg, name, annotations, folder, in_names):
    monkeypatch.setenv('MMMASKCLIP_EVAL', str(tmp_path))
    (tmp_path / folder).mkdir(parents=True)
    names = [f'{index}.jpg' for index in range(5)]
    for index, file in enumerate(names):
        Image.new('RGB', (40, 50), (50 * index, 0, 90)).save(tmp_path / folder / file)
    write_karpathy(tmp_path / annotations, in_names, names)
    task = name.split('_')[0]
    options = {f'test_dataloader.{task}.dataset.views.image.{step}.size': 32 for step in (0, 1)}
    with pytest.raises(ValueError, match='4 images are in the data set, the protocol has'):
        run(f'retrieval/{name}.py', tiny_model_cfg(), tmp_path / 'wrong', **options)
    options[f'test_evaluator.{task}.num_images'] = 4
    metrics = run(f'retrieval/{name}.py', tiny_model_cfg(), tmp_path / 'run', **options)
    assert set(metrics) == {f'{task}/{way}_R@{k}' for way in ('image_to_text', 'text_to_image') for k in (1, 5, 10)}
    assert metrics[f'{task}/text_to_image_R@5'] == 100  # Of four images.


@pytest.mark.parametrize(('name', 'images'), [('flickr30k_1k', 1000), ('coco_5k', 5000), ('flickr8k', 1000)])
def test_retrieval_protocols(name, images):
    (metric,) = Config.fromfile(CONFIGS / f'retrieval/{name}.py').test_evaluator.values()
    assert (metric.topk, metric.captions_per_image, metric.num_images) == ((1, 5, 10), 5, images)


def test_flickr8k_reads_the_real_dev_split(data_root):
    cfg = Config.fromfile(CONFIGS / 'retrieval/flickr8k.py').test_dataloader.flickr8k.dataset
    dataset = DATASETS.build({**cfg, 'urls': f'{data_root}/flickr8k/dev-*.tar'})
    assert len(dataset) == 1000
    assert len(dataset[999]['tokens']) == 5


def test_probes_on_scenes(tmp_path, monkeypatch, tiny_model_cfg):
    monkeypatch.setenv('MMMASKCLIP_SCENES', str(tmp_path))
    splits = {'val': SceneSplit(20, (2, 3)), 'single': SceneSplit(100, (1, 1))}
    write_shards(tmp_path / 'shards', splits, image_size=32, shard_size=50)
    with (
        tarfile.open(tmp_path / 'shards/val-00000.tar') as old,
        tarfile.open(tmp_path / 'shards/val-00001.tar', 'w') as new,
    ):
        for member in old:
            new.addfile(member, io.BytesIO(old.extractfile(member).read()))
    sizes = {
        'test_dataloader.knn.dataset.transforms.0.size': 32,
        'test_dataloader.linear_segmentation.dataset.transforms.0.size': 32,
        'test_evaluator.knn.train_dataloader.dataset.transforms.0.size': 32,
        'test_evaluator.linear_segmentation.train_dataloader.dataset.transforms.0.size': 32,
        'test_evaluator.linear_segmentation.steps': 20,
    }
    metrics = run('probes/scenes.py', tiny_model_cfg(), tmp_path / 'run', **sizes)
    assert set(metrics) == {'knn/top1', 'knn/top5'} | {f'linear_segmentation/{m}' for m in ('mIoU', 'mAcc', 'aAcc')}
    assert metrics['linear_segmentation/mIoU'] > 100 / 40  # Tested on what it learned from.


def test_camvid_reads_the_real_splits(data_root, monkeypatch):
    monkeypatch.setenv('MMMASKCLIP_DATA', str(data_root))
    cfg = Config.fromfile(CONFIGS / 'probes/camvid.py')
    metric = cfg.test_evaluator.linear_segmentation
    sizes = []
    for loader in (cfg.test_dataloader.linear_segmentation, metric.train_dataloader):
        dataset = DATASETS.build(loader.dataset)
        assert dataset[0]['image'].shape == (3, 224, 224)
        assert int(dataset[0]['mask'].max()) <= metric.ignore_index == metric.num_classes
        sizes.append(len(dataset))
    assert sizes == [233, 367]


def test_cifar10_probes_the_splits_of_the_zero_shot_config():
    probe = Config.fromfile(CONFIGS / 'probes/cifar10.py')
    zero_shot = Config.fromfile(CONFIGS / 'zero_shot/cifar10.py')
    assert probe.test_dataloader.knn == zero_shot.test_dataloader.cifar10
    train = probe.test_evaluator.knn.train_dataloader.dataset
    assert train.source.train
    assert (train.num_samples, train.transforms) == (50000, probe.test_dataloader.knn.dataset.transforms)
