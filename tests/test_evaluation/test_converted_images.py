"""Images that a published set's protocol converts are counted, wherever they come from."""

import io

import pytest
import webdataset
from PIL import Image

from mmmaskclip.datasets.evaluation.labelled_images import LabelledImages
from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.evaluation import converted_images
from mmmaskclip.evaluation.converted_images import ConvertedImages

_RGB = Image.new('RGB', (8, 8), (9, 99, 199))


def _bytes(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


FILES = {
    'ant/0.jpg': _bytes(_RGB, 'JPEG'),
    'ant/1.jpg': _bytes(_RGB.convert('CMYK'), 'JPEG'),
    'bee/0.jpg': _bytes(_RGB, 'GIF', save_all=True, append_images=[Image.new('RGB', (8, 8))]),
    'bee/1.jpg': _bytes(_RGB.convert('CMYK'), 'JPEG'),
}


def sets(folder):
    for name, data in FILES.items():
        path = folder / 'set' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (folder / 'wds/test').mkdir(parents=True)
    with webdataset.TarWriter(str(folder / 'wds/test/0.tar')) as writer:
        for index, (name, data) in enumerate(FILES.items()):
            writer.write({'__key__': f's{index}', 'jpg': data, 'cls': int(name.startswith('bee'))})
    shared = dict(classes=['ant', 'bee'], transforms=[], num_classes=2, num_samples=4)
    where = str(folder / 'set')
    mmpretrain = dict(type='mmpretrain.CustomDataset', data_root=where, metainfo=dict(classes=('ant', 'bee')))
    return {
        'torchvision': dict(source=dict(type='torchvision/ImageFolder', root=where), folder=where, **shared),
        'mmpretrain': dict(source=mmpretrain, folder=where, **shared),
        'shards': dict(
            source={}, folder=str(folder / 'none'), shards=str(folder / 'wds/test/*.tar'), label_key='cls', **shared
        ),
    }


@pytest.mark.parametrize('source', ['torchvision', 'mmpretrain', 'shards'])
def test_converted_images_are_counted_by_cause_and_named(source, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(converted_images, 'print_log', lambda text, **_: said.append(text))
    dataset = LabelledImages(**sets(tmp_path)[source])
    samples = [dataset[index] for index in range(4)]
    counter = ConvertedImages()
    counter.add(collate_image_text(samples[:3]))
    counter.add(collate_image_text(samples[2:]))  # a sampler repeats samples to fill up
    counter.report('ants and bees', 4)
    keys = ', '.join(sample['key'] for sample in samples[1:])
    assert said == [
        'ants and bees: 3 of 4 images were converted, as in the protocols of published sets (animated 1, '
        f'unsupported_mode 2): {keys}.'
    ]


def test_nothing_is_said_of_sets_that_need_no_conversion(monkeypatch):
    said = []
    monkeypatch.setattr(converted_images, 'print_log', lambda text, **_: said.append(text))
    counter = ConvertedImages()
    counter.add({'key': ['a'], 'converted': ['']})
    counter.add({'image': None})
    counter.report('a set', 1)
    assert said == []
