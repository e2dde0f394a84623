"""The table of the zero-shot classification sets. Configs, docs and tests are made from its rows, one per set.

A new set is one row here, its prompts in ``mmmaskclip/datasets/prompts/NAME.json`` and a config of three lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ZeroShotSet:
    """The facts about one set; :class:`~mmmaskclip.datasets.LabelledImages` explains each argument.

    Attributes:
        name: Name of the row and of its config.
        title: Set and split, for people.
        source: The dataset class that reads the folder, ``torchvision/...`` or ``mmpretrain....``.
        folder: Folder of the set, below the folder of all sets.
        num_samples: Test samples of the protocol; None where copies of the set differ.
        num_classes: Classes of the protocol.
        get: How to get the set.
        arguments: Arguments of the source that select the split.
        shards: Folder of the split in CLIP_benchmark's export; None where the export has another split.
        metric: Metric of the protocol, as :class:`~mmmaskclip.evaluation.ZeroShotClassification` names it.
        prompts: Prompt file with class names and templates; None for the file of the row's name.
        templates: Prompt file with the templates; None for the templates in ``prompts``.
        resize: Interpolation of the resize: SLIP's ``eval_zeroshot.py`` is bilinear, ELEVATER's ``feature.py`` bicubic.
        options: Further arguments of ``LabelledImages``: ``label_order``, ``per_class``, ``folders``, ...
        train: Arguments of the training split that replace those above, for probes.
        task: Name of the task in results; None for the row's name.
        note: Differences from the protocol of the papers.
    """

    name: str
    title: str
    source: str
    folder: str
    num_samples: int | None
    num_classes: int
    get: str
    arguments: dict[str, Any] = field(default_factory=dict)
    shards: str | None = None
    metric: str = 'top1'
    prompts: str | None = None
    templates: str | None = None
    resize: str = 'bilinear'
    options: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    task: str | None = None
    note: str = ''

    @property
    def classes(self) -> str:
        """Prompt file with the class names."""
        return self.prompts or self.name

    def where(self, root: str) -> dict[str, Any]:
        """The arguments ``source``, ``folder`` and ``shards`` of ``LabelledImages``, below the folder of all sets."""
        folder = f'{root}/{self.folder}'
        if self.source.startswith('mmpretrain.'):
            place = {'data_root': folder}
        else:
            # torchvision's classes find their own folder below root; an ImageFolder is that folder.
            place = {'root': folder if self.source == IMAGE_FOLDER else root}
        shards = f'{root}/{self.shards}/*.tar' if self.shards else None
        return dict(source=dict(type=self.source, **place, **self.arguments), folder=folder, shards=shards)


IMAGE_FOLDER = 'torchvision/ImageFolder'
_TEST, _NO_TRAIN = dict(split='test'), dict(train=False)


def _downloads(
    name: str, source: str, folder: str, shards: str | None, num_samples: int, num_classes: int, **facts: Any
) -> ZeroShotSet:
    """A set that torchvision downloads by itself."""
    get = f'`torchvision.datasets.{source}(root, download=True)`{facts.pop("needs", "")}.'
    facts = dict(title=f'{source}, test split', arguments=_TEST) | facts
    place: dict[str, Any] = dict(source=f'torchvision/{source}', folder=folder, shards=shards)
    return ZeroShotSet(name, num_samples=num_samples, num_classes=num_classes, get=get, **place, **facts)


def _folders(
    name: str, title: str, folder: str, num_samples: int | None, num_classes: int, get: str, **facts: Any
) -> ZeroShotSet:
    """A set with one folder of images per class."""
    return ZeroShotSet(name, title, IMAGE_FOLDER, folder, num_samples, num_classes, get, **facts)


_KITTI = ['above_20', 'below_20', 'below_8', 'no_vehicle']
_EUROSAT = ['AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway', 'Industrial', 'Pasture', 'PermanentCrop']
_EUROSAT += ['Residential', 'River', 'SeaLake']
_FER2013 = ['angry', 'disgusted', 'fearful', 'happy', 'neutral', 'sad', 'surprised']

# Sources of the counts: SLIP's dataset_catalog.json, VISSL's scripts, ELEVATER's vision_datasets.json, and the test
# splits that the sets themselves publish.
_ROWS = [
    _downloads('food101', 'Food101', 'food-101', 'wds_food101/test', 25250, 101, title='Food-101, test split'),
    _downloads(
        'cifar10', 'CIFAR10', 'cifar-10-batches-py', 'wds_vtab-cifar10/test', 10000, 10,
        title='CIFAR-10, test split', arguments=_NO_TRAIN,
        train=dict(arguments=dict(train=True), shards='wds_vtab-cifar10/train', num_samples=50000),
    ),
    _downloads(
        'cifar100', 'CIFAR100', 'cifar-100-python', 'wds_vtab-cifar100/test', 10000, 100,
        title='CIFAR-100, test split', arguments=_NO_TRAIN,
    ),
    ZeroShotSet(
        'cub200', 'CUB-200-2011, test split', 'mmpretrain.CUB', 'CUB_200_2011', 5794, 200,
        'Unpack CUB_200_2011.tgz of https://www.vision.caltech.edu/datasets/cub_200_2011/ there.',
        arguments=_TEST, shards='wds_cub200/test', note="SLIP's catalogue calls this split val.",
    ),
    ZeroShotSet(
        'sun397', 'SUN397, the first test partition', 'mmpretrain.SUN397', 'sun397', 19850, 397,
        'Unpack SUN397.tar.gz (to SUN397/) and Partitions.zip (to Partitions/) of '
        'https://vision.princeton.edu/projects/2010/SUN/ there.',
        arguments=_TEST,
        note="SLIP drew a test split of its own (VISSL's script); this is the partition of CLIP's paper. "
        "CLIP_benchmark's export is all 108,754 images.",
    ),
    ZeroShotSet(
        'cars', 'Stanford Cars, test split', 'torchvision/StanfordCars', 'stanford_cars', 8041, 196,
        '`torchvision.datasets.StanfordCars` names the files; needs scipy.', arguments=_TEST, shards='wds_cars/test',
    ),
    _downloads(
        'aircraft', 'FGVCAircraft', 'fgvc-aircraft-2013b', 'wds_fgvc_aircraft/test', 3333, 100,
        title='FGVC-Aircraft, variants, test split', metric='mean_per_class',
    ),
    _downloads(
        'dtd', 'DTD', 'dtd', 'wds_vtab-dtd/test', 1880, 47,
        title='Describable Textures, test split of the first partition',
    ),
    _downloads(
        'pets', 'OxfordIIITPet', 'oxford-iiit-pet', 'wds_vtab-pets/test', 3669, 37,
        title='Oxford-IIIT Pets, test split', metric='mean_per_class',
        train=dict(arguments=dict(split='trainval'), shards='wds_vtab-pets/train', num_samples=3680),
    ),
    _folders(
        'caltech101', 'Caltech-101 with its background class, without the first 30 images of each class',
        'caltech-101/101_ObjectCategories', 6084, 102, shards='wds_vtab-caltech101/test', metric='mean_per_class',
        get='Unpack 101_ObjectCategories of https://data.caltech.edu/records/mzrjq-6wc02 there, all 102 folders.',
        # Of 9,144 images, 30 per class are for training; the largest class has 800.
        options=dict(per_class=(30, 800)),
        note="SLIP drew the 30 training images by VISSL's script, CLIP (whose draw ICinW has) by its own, VTAB (whose "
        'draw the shards have) by another: as many test images everywhere, but others.',
    ),
    _downloads(
        'flowers', 'Flowers102', 'flowers-102', 'wds_vtab-flowers/test', 6149, 102,
        title='Oxford Flowers-102, test split', metric='mean_per_class', needs='; needs scipy',
    ),
    _downloads('mnist', 'MNIST', 'MNIST', 'wds_mnist/test', 10000, 10, arguments=_NO_TRAIN),
    ZeroShotSet(
        'fer2013', 'FER2013, public and private test images', 'torchvision/FER2013', 'fer2013', 7178, 7,
        'Put fer2013.csv or icml_face_data.csv of Kaggle there.', arguments=_TEST, shards='wds_fer2013/test',
        # In Kaggle's file neutral is the last; the prompts are sorted by name.
        options=dict(label_order=[0, 1, 2, 3, 6, 4, 5]),
        note="SLIP does not say which of the two test splits it took; both together are CLIP_benchmark's.",
    ),
    _downloads('stl10', 'STL10', 'stl10_binary', 'wds_stl10/test', 8000, 10, title='STL-10, test split'),
    _downloads(
        'eurosat', 'EuroSAT', 'eurosat', None, 5000, 10, title='EuroSAT, images 1,000 to 1,499 of each class',
        arguments={}, options=dict(per_class=(1000, 1500)),
        note="The split of VISSL's script, which SLIP names; CLIP_benchmark's export is VTAB's, of 5,400 images.",
    ),
    _folders(
        'resisc45', 'RESISC45, test split', 'resisc45/test', 6300, 45, shards='wds_vtab-resisc45/test',
        get="NWPU-RESISC45, sorted by VISSL's create_resisc45_data_files.py: one folder per class.",
        note="A fifth of the set, as VISSL's script draws it; CLIP_benchmark's export is VTAB's: as many, but others.",
    ),
    _downloads('gtsrb', 'GTSRB', 'gtsrb', 'wds_gtsrb/test', 12630, 43),
    _folders(
        'kitti_distance', 'KITTI distance, val split', 'kitti_distance/val', 1496, 4, options=dict(folders=_KITTI),
        get="One folder per class: above_20, below_20, below_8, no_vehicle (VISSL's create_kitti_dist_data_files.py).",
        note="A fifth of KITTI's training images; VISSL's script draws it without a seed, so every copy has another "
        "split. CLIP_benchmark's export is VTAB's test split, see `kitti_distance_icinw`.",
    ),
    _downloads('country211', 'Country211', 'country211', 'wds_country211/test', 21100, 211),
    _downloads(
        'patch_camelyon', 'PCAM', 'pcam', 'wds_vtab-pcam/val', 32768, 2, title='PatchCamelyon, val split',
        arguments=dict(split='val'), needs='; needs h5py',
    ),
    _folders(
        'ucf101_frames', 'UCF101, middle frames of the first test split', 'ucf101_frames/val', 3783, 101,
        shards='wds_ucf101_frames/test', get="One folder per class (VISSL's create_ucf101_data_files.py).",
    ),
    _folders(
        'kinetics700_frames', 'Kinetics-700, frames of the val split', 'kinetics700_frames/val_images', None, 700,
        shards='wds_kinetics700_frames/test', metric='mean_top1_top5',
        get="One folder per class (VISSL's create_k700_data_files.py).",
        note='Videos vanish from the web, so the number of samples is not checked.',
    ),
    _downloads(
        'clevr_counts', 'CLEVRClassification', 'clevr', 'wds_vtab-clevr_count_all/test', 15000, 8,
        title='CLEVR, number of objects, val split', arguments=dict(split='val'),
        # Classes are sorted as text: 10, 3, 4, ...; VTAB's labels are the number less 3.
        options=dict(label_order=[10, 3, 4, 5, 6, 7, 8, 9], shards_label_order=[7, 0, 1, 2, 3, 4, 5, 6]),
    ),
    _folders(
        'hateful_memes', 'Hateful Memes, dev split', 'hateful_memes/dev', 500, 2, shards='wds_hateful_memes/test',
        get='Sort the images of dev.jsonl into the folders 0 and 1 by their label.',
        metric='roc_auc', options=dict(folders=['0', '1']),
    ),
    _downloads(
        'rendered_sst2', 'RenderedSST2', 'rendered-sst2', 'wds_renderedsst2/test', 1821, 2,
        title='Rendered SST2, test split',
    ),
    _folders(
        'imagenet', 'ImageNet-1K, val split, 7 templates', 'imagenet/val', 50000, 1000, shards='wds_imagenet1k/test',
        get='One folder per class, named by its WordNet id.',
        train=dict(folder='imagenet/train', shards=None, num_samples=1281167),
    ),
    ZeroShotSet(
        'voc2007', 'PASCAL VOC2007, test split', 'mmpretrain.VOC', 'VOCdevkit/VOC2007', 4952, 20,
        "`torchvision.datasets.VOCDetection(root, '2007', 'test', download=True)`.", arguments=_TEST,
        shards='wds_voc2007_multilabel/test', metric='map11', resize='bicubic', options=dict(label_key='npy'),
        note='An image is of every class that it shows, difficult objects included, as in CLIP_benchmark.',
    ),
]  # fmt: skip

ZERO_SHOT_SETS: dict[str, ZeroShotSet] = {row.name: row for row in _ROWS}


def _variant(name: str, of: str, **changes: Any) -> None:
    base = ZERO_SHOT_SETS[of]
    changes = dict(task=of, prompts=base.classes) | changes
    ZERO_SHOT_SETS[name] = replace(base, name=name, **changes)


def _of_icinw(of: str, **changes: Any) -> None:
    _variant(f'{of}_icinw', of, **(dict(resize='bicubic') | changes))


def _folders_of_icinw(of: str, title: str, num_samples: int, get: str, **changes: Any) -> None:
    place: dict[str, Any] = dict(source=IMAGE_FOLDER, folder=f'{of}_icinw/test', arguments={}, shards=None)
    _of_icinw(of, **(dict(title=title, num_samples=num_samples, get=get, **place) | changes))


_of_icinw('aircraft', prompts='aircraft_icinw')
_of_icinw('cars', prompts='cars_icinw')
_folders_of_icinw(
    'eurosat', 'EuroSAT, the 5,000 test images of CLIP', 5000,
    "One folder per class, named as EuroSAT's own, with the images of ELEVATER's eurosat_clip, test split.",
    options=dict(folders=_EUROSAT),
    note="CLIP drew them itself: as many as SLIP's, but others. CLIP_benchmark's export is VTAB's, of 5,400 images.",
)  # fmt: skip
_folders_of_icinw(
    'fer2013', 'FER2013, private test images', 3589,
    f'One folder per class, of the private test images: {", ".join(_FER2013)}.',
    options=dict(folders=_FER2013), prompts='fer2013_icinw',
    note="CLIP_benchmark's export holds the public test images too, 7,178.",
)  # fmt: skip
_folders_of_icinw(
    'kitti_distance', "KITTI distance, VTAB's test split", 711, f'One folder per class: {", ".join(_KITTI)}.',
    shards='wds_vtab-kitti_closest_vehicle_distance/test',
    # VTAB counts from the closest distance on.
    options=dict(folders=_KITTI, shards_label_order=[2, 1, 0, 3]), note='',
)  # fmt: skip
_of_icinw(
    'patch_camelyon', title='PatchCamelyon, test split', arguments=_TEST, shards='wds_vtab-pcam/test'
)  # fmt: skip
_folders_of_icinw(
    'resisc45', 'RESISC45, the 25,200 test images of CLIP and ICinW', 25200,
    "NWPU-RESISC45: one folder per class, with the images of ELEVATER's resisc45_clip, test split.",
    note="CLIP_benchmark's export is VTAB's test split, of 6,300 images.",
)  # fmt: skip
_variant('imagenet_80', 'imagenet', title="ImageNet-1K, val split, OpenAI's 80 templates", templates='imagenet_80')
_variant(
    'cifar10_folder', 'cifar10', title="5,000 of CIFAR-10's test images as JPEG files", source=IMAGE_FOLDER,
    folder='cifar10_folder/test', arguments={}, shards=None, num_samples=5000,
    get='One folder per class, 500 images in each: `tar xf test.tar --one-top-level=data/zero_shot/cifar10_folder`.',
    train=dict(folder='cifar10_folder/train', num_samples=5000),
    note='For quick comparisons; not comparable with published results.',
)  # fmt: skip


def row_of(name: str) -> ZeroShotSet:
    """The row of a set. Raises ValueError, with the names of all rows, if there is no such row."""
    if name not in ZERO_SHOT_SETS:
        raise ValueError(f'there is no zero-shot set {name!r}; there are {", ".join(sorted(ZERO_SHOT_SETS))}')
    return ZERO_SHOT_SETS[name]


SUITES: dict[str, Sequence[str]] = {
    # SLIP's eval_zeroshot.py, in its order.
    'slip26': (
        'food101', 'cifar10', 'cifar100', 'cub200', 'sun397', 'cars', 'aircraft', 'dtd', 'pets', 'caltech101',
        'flowers', 'mnist', 'fer2013', 'stl10', 'eurosat', 'resisc45', 'gtsrb', 'kitti_distance', 'country211',
        'patch_camelyon', 'ucf101_frames', 'kinetics700_frames', 'clevr_counts', 'hateful_memes', 'rendered_sst2',
        'imagenet',
    ),
    # ELEVATER's resources/datasets, by name.
    'icinw20': (
        'caltech101', 'cifar10', 'cifar100', 'country211', 'dtd', 'eurosat_icinw', 'fer2013_icinw', 'aircraft_icinw',
        'flowers', 'food101', 'gtsrb', 'hateful_memes', 'kitti_distance_icinw', 'mnist', 'pets',
        'patch_camelyon_icinw', 'rendered_sst2', 'resisc45_icinw', 'cars_icinw', 'voc2007',
    ),
}  # fmt: skip
