"""Tiny copies of the public layouts of classification sets: for each class two images of one colour.

``write(ROW, ROOT, CLASSES)`` writes the set as its row of the table of zero-shot sets expects it. The colour of an
image is that of its class's number among the classes of the prompt file, so that a test sees whether labels are in that
order.
"""

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmpretrain.datasets import categories
from PIL import Image
from scipy.io import savemat

from mmmaskclip.datasets.evaluation.zero_shot_sets import IMAGE_FOLDER, ZeroShotSet

PER_CLASS = 2
# The colour of no class: of images that are not of the split.
OTHER = 900


def colour(label: int) -> tuple[int, int, int]:
    """Of a class; JPEG keeps it apart from its neighbours'."""
    return (16 * (label % 16) + 8, 16 * (label // 16 % 16) + 8, 64 * (label // 256) + 8)


def number(image: np.ndarray) -> int:
    """The class of an image (3, H, W) of one colour."""
    red, green, blue = image.reshape(3, -1).mean(1)
    return round((red - 8) / 16) + 16 * round((green - 8) / 16) + 256 * round((blue - 8) / 64)


def pixels(label: int, size: int = 16) -> np.ndarray:
    return np.tile(np.array(colour(label), np.uint8), (size, size, 1))


def save(path: Path, label: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(label)).save(path, **({'quality': 95} if path.suffix == '.jpg' else {}))


def plain(name: str) -> str:
    return ''.join(filter(str.isalnum, name.lower()))


def by_name(names: Sequence[str], classes: Sequence[Sequence[str]]) -> list[int]:
    """Place of each of a library's names among the classes of the prompts."""
    places = {plain(synonym): place for place, synonyms in enumerate(classes) for synonym in synonyms}
    return [places[plain(name)] for name in names]


def folders(root: Path, names: Sequence[str], order: Sequence[int], per_class: int = PER_CLASS) -> None:
    for name, label in zip(names, order, strict=True):
        for index in range(per_class):
            save(root / name / f'{index:04d}.jpg', label)


def _names(classes):
    return [synonyms[0].replace(' ', '_') for synonyms in classes]


def _food101(root, classes):
    names = sorted(name.lower().replace(' ', '_') for name in _names(classes))
    folders(root / 'food-101/images', names, by_name(names, classes))
    meta = {name: [f'{name}/{index:04d}' for index in range(PER_CLASS)] for name in names}
    (root / 'food-101/meta').mkdir()
    (root / 'food-101/meta/test.json').write_text(json.dumps(meta))


def _cifar(folder, file, key, meta):
    def write(root, classes):
        labels = [label for label in range(len(classes)) for _ in range(PER_CLASS)]
        (root / folder).mkdir()
        data = np.stack([pixels(label, 32).transpose(2, 0, 1).reshape(-1) for label in labels])
        names = {meta[1]: [synonyms[0].replace(' ', '_') for synonyms in classes]}
        for name, content in ((file, {'data': data, key: labels}), (meta[0], names)):
            (root / folder / name).write_bytes(pickle.dumps(content))

    return write


def _cub200(root, classes):
    rows = {'images': [], 'image_class_labels': [], 'train_test_split': []}
    for label in range(len(classes)):
        for index in range(PER_CLASS + 1):
            path = f'{label + 1:03d}/{index}.jpg'
            save(root / 'CUB_200_2011/images' / path, label)
            for kind, value in zip(rows, (path, label + 1, int(index == PER_CLASS)), strict=True):
                rows[kind].append(f'{len(rows[kind]) + 1} {value}')
    for kind, lines in rows.items():
        (root / f'CUB_200_2011/{kind}.txt').write_text('\n'.join(lines))


def _sun397(root, classes):
    lines = []
    for name, label in zip(categories.SUN397_CATEGORIES, by_name(categories.SUN397_CATEGORIES, classes), strict=True):
        for index in range(PER_CLASS):
            lines.append(f'/{name[0]}/{name}/sun_{index}.jpg')
            save(root / 'sun397/SUN397' / lines[-1][1:], label)
    (root / 'sun397/Partitions').mkdir()
    (root / 'sun397/Partitions/Testing_01.txt').write_text('\n'.join(lines))


def _cars(root, classes):
    (root / 'stanford_cars/devkit').mkdir(parents=True)
    annotations = []
    for label in range(len(classes)):
        for index in range(PER_CLASS):
            annotations.append((f'{label:03d}_{index}.jpg', label + 1))
            save(root / 'stanford_cars/cars_test' / annotations[-1][0], label)
    rows = np.array(annotations, dtype=[('fname', 'O'), ('class', 'O')])
    savemat(root / 'stanford_cars/cars_test_annos_withlabels.mat', {'annotations': rows})
    names = np.array([synonyms[0] for synonyms in classes], dtype=object)
    savemat(root / 'stanford_cars/devkit/cars_meta.mat', {'class_names': names})


def _aircraft(root, classes):
    data = root / 'fgvc-aircraft-2013b/data'
    names, lines = [synonyms[0] for synonyms in classes], []
    for label, name in enumerate(names):
        for index in range(PER_CLASS):
            lines.append(f'{label:03d}{index} {name}')
            save(data / f'images/{label:03d}{index}.jpg', label)
    (data / 'variants.txt').write_text('\n'.join(names))
    (data / 'images_variant_test.txt').write_text('\n'.join(lines))


def _dtd(root, classes):
    names = sorted(_names(classes))
    folders(root / 'dtd/dtd/images', names, by_name(names, classes))
    (root / 'dtd/dtd/labels').mkdir()
    lines = [f'{name}/{index:04d}.jpg' for name in names for index in range(PER_CLASS)]
    (root / 'dtd/dtd/labels/test1.txt').write_text('\n'.join(lines))


def _pets(root, classes):
    base, lines = root / 'oxford-iiit-pet', []
    # The set's own numbers go by the alphabet; in the prompts, cats come first.
    names = sorted(_names(classes), key=str.lower)
    for species, (name, label) in enumerate(zip(names, by_name(names, classes), strict=True), 1):
        for index in range(PER_CLASS):
            lines.append(f'{name}_{index} {species} 1 1')
            save(base / f'images/{name}_{index}.jpg', label)
    (base / 'annotations').mkdir()
    (base / 'annotations/test.txt').write_text('\n'.join(lines))


def _flowers(root, classes):
    labels = [label for label in range(len(classes)) for _ in range(PER_CLASS)]
    for image_id, label in enumerate(labels, 1):
        save(root / f'flowers-102/jpg/image_{image_id:05d}.jpg', label)
    savemat(root / 'flowers-102/imagelabels.mat', {'labels': np.array(labels) + 1})
    savemat(root / 'flowers-102/setid.mat', {'tstid': np.arange(1, len(labels) + 1)})


def _mnist(root, classes):
    folder = root / 'MNIST/raw'
    folder.mkdir(parents=True)
    labels = np.repeat(np.arange(len(classes), dtype=np.uint8), PER_CLASS)
    # Grey: the class is in the brightness.
    images = np.broadcast_to(labels[:, None, None] * 16 + 8, (len(labels), 28, 28)).astype(np.uint8)
    for name, values in (('t10k-images-idx3-ubyte', images), ('t10k-labels-idx1-ubyte', labels)):
        header = b'\x00\x00\x08' + bytes([values.ndim]) + b''.join(n.to_bytes(4, 'big') for n in values.shape)
        (folder / name).write_bytes(header + values.tobytes())
        (folder / name.replace('t10k', 'train')).write_bytes(header + values.tobytes())


def _fer2013(root, classes):
    (root / 'fer2013').mkdir()
    with open(root / 'fer2013/fer2013.csv', 'w', newline='') as file:
        rows = csv.writer(file)
        rows.writerow(['emotion', 'pixels', 'Usage'])
        # Kaggle's numbers, which are not in the order of the names.
        kaggle = ['angry', 'disgusted', 'fearful', 'happy', 'sad', 'surprised', 'neutral']
        for emotion, label in enumerate(by_name(kaggle, classes)):
            for usage in ('PublicTest', 'PrivateTest', 'Training'):
                rows.writerow([emotion, ' '.join([str(16 * label + 8)] * 48 * 48), usage])


def _stl10(root, classes):
    base = root / 'stl10_binary'
    base.mkdir()
    labels = np.repeat(np.arange(len(classes)), PER_CLASS)
    images = np.stack([pixels(label, 96).transpose(2, 1, 0) for label in labels])
    (base / 'test_X.bin').write_bytes(images.tobytes())
    (base / 'test_y.bin').write_bytes((labels + 1).astype(np.uint8).tobytes())
    (base / 'class_names.txt').write_text('\n'.join(synonyms[0] for synonyms in classes))


def _country211(root, classes):
    folders(root / 'country211/test', [f'{index:04d}' for index in range(len(classes))], range(len(classes)))


def _eurosat(root, classes):
    names = ['AnnualCrop', 'Forest', 'HerbaceousVegetation', 'Highway', 'Industrial', 'Pasture', 'PermanentCrop']
    names += ['Residential', 'River', 'SeaLake']
    folders(root / 'eurosat/2750', names, [OTHER] * len(names), 4)
    for label, name in enumerate(names):
        for index in (1, 2):
            save(root / f'eurosat/2750/{name}/{index:04d}.jpg', label)


def _gtsrb(root, classes):
    lines = ['Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId']
    for label in range(len(classes)):
        for index in range(PER_CLASS):
            save(root / f'gtsrb/GTSRB/Final_Test/Images/{label:02d}{index}.ppm', label)
            lines.append(f'{label:02d}{index}.ppm;1;1;1;1;1;1;{label}')
    (root / 'gtsrb/GT-final_test.csv').write_text('\n'.join(lines))


def _clevr(root, classes):
    base, scenes = root / 'clevr/CLEVR_v1.0', []
    for label, (count,) in enumerate(classes):
        for index in range(PER_CLASS):
            scenes.append({'image_filename': f'{count}_{index}.png', 'objects': [{}] * int(count)})
            save(base / 'images/val' / scenes[-1]['image_filename'], label)
    (base / 'scenes').mkdir()
    (base / 'scenes/CLEVR_val_scenes.json').write_text(json.dumps({'scenes': scenes}))


def _sst2(root, classes):
    for label, name in enumerate(['negative', 'positive']):
        for index in range(PER_CLASS):
            save(root / f'rendered-sst2/test/{name}/{index}.png', label)


def _voc2007(root, classes):
    """One class per image, and one image that also has a difficult object of the next class."""
    base, ids = root / 'VOCdevkit/VOC2007', []
    names = [
        'aeroplane',
        'bicycle',
        'bird',
        'boat',
        'bottle',
        'bus',
        'car',
        'cat',
        'chair',
        'cow',
        'diningtable',
        'dog',
    ]
    names += ['horse', 'motorbike', 'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor']
    for place, (name, label) in enumerate(zip(names, by_name(names, classes), strict=True)):
        ids.append(f'{place:06d}')
        save(base / f'JPEGImages/{ids[-1]}.jpg', label)
        objects = [(name, 0), (names[1], 1)] if place == 0 else [(name, 0)]
        xml = ''.join(f'<object><name>{n}</name><difficult>{hard}</difficult></object>' for n, hard in objects)
        (base / 'Annotations').mkdir(exist_ok=True)
        (base / f'Annotations/{ids[-1]}.xml').write_text(f'<annotation>{xml}</annotation>')
    (base / 'ImageSets/Main').mkdir(parents=True)
    (base / 'ImageSets/Main/test.txt').write_text('\n'.join(ids))


def _image_folder(row: ZeroShotSet, root: Path, classes: Sequence[Sequence[str]]) -> None:
    """Folders with the names that the row gives, with those of the classes, or, where two are alike, with numbers."""
    names = row.options.get('folders') or _names(classes)
    if row.name == 'caltech101':
        names = categories.CALTECH101_CATEGORIES
    elif len({plain(name) for name in names}) < len(names):
        names = [f'{index:04d}' for index in range(len(classes))]
    order = range(len(classes))
    if 'per_class' in row.options:
        folders(root / row.folder, names, [OTHER] * len(names), PER_CLASS + 2)
        for name, label in zip(names, order, strict=True):
            for index in range(PER_CLASS):
                save(root / row.folder / name / f'{index + 1:04d}.jpg', label)
    else:
        folders(root / row.folder, names, order)


# By the class that reads the layout. A set in folders needs no writer of its own.
WRITERS: dict[str, Callable[[Path, Sequence[Sequence[str]]], None]] = {
    'torchvision/Food101': _food101,
    'torchvision/CIFAR10': _cifar('cifar-10-batches-py', 'test_batch', 'labels', ('batches.meta', 'label_names')),
    'torchvision/CIFAR100': _cifar('cifar-100-python', 'test', 'fine_labels', ('meta', 'fine_label_names')),
    'mmpretrain.CUB': _cub200,
    'mmpretrain.SUN397': _sun397,
    'mmpretrain.VOC': _voc2007,
    'torchvision/StanfordCars': _cars,
    'torchvision/FGVCAircraft': _aircraft,
    'torchvision/DTD': _dtd,
    'torchvision/OxfordIIITPet': _pets,
    'torchvision/Flowers102': _flowers,
    'torchvision/MNIST': _mnist,
    'torchvision/FER2013': _fer2013,
    'torchvision/STL10': _stl10,
    'torchvision/EuroSAT': _eurosat,
    'torchvision/GTSRB': _gtsrb,
    'torchvision/Country211': _country211,
    'torchvision/CLEVRClassification': _clevr,
    'torchvision/RenderedSST2': _sst2,
}


def write(row: ZeroShotSet, root: Path, classes: Sequence[Sequence[str]]) -> None:
    if row.source == IMAGE_FOLDER:
        _image_folder(row, root, classes)
    else:
        WRITERS[row.source](root, classes)
