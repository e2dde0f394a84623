import sys
from collections import Counter

from PIL import Image

from mmmaskclip.datasets import ClassCaptionShards

TOOL = 'tools/dataset_converters/make_label_shards.py'


def test_an_image_folder_becomes_labelled_pairs(run_tool, tmp_path):
    for name, count in (('cat', 3), ('dog', 4)):
        (tmp_path / 'images' / name).mkdir(parents=True)
        for index in range(count):
            Image.new('RGB', (16, 16), 'red' if name == 'cat' else 'blue').save(tmp_path / f'images/{name}/{index}.png')
    out = tmp_path / 'shards'
    done = run_tool(
        sys.executable, 'tools/dataset_converters/make_label_shards.py', tmp_path / 'images', out, '--shard-size', 4
    )
    assert '7 images of 2 classes' in done.stdout
    assert len(list(out.glob('*.tar'))) == 2
    dataset = ClassCaptionShards(
        f'{out}/*.tar', views=dict(image=[]), classes=str(out / 'classes.txt'), templates=['a photo of a {}']
    )
    dataset.begin_epoch(0, 0, batch_size=1)
    samples = list(dataset)
    assert Counter(sample['label'] for sample in samples) == {0: 3, 1: 4}
    assert all(sample['image'][0, 0, 0] == (255 if sample['label'] == 0 else 0) for sample in samples)


def test_a_folder_without_images_is_named(run_tool, tmp_path):
    folder = tmp_path / 'empty'
    folder.mkdir()
    done = run_tool(sys.executable, 'tools/dataset_converters/make_label_shards.py', folder, tmp_path / 'out', code=1)
    assert f'{folder} has no folder with images' in done.stderr
