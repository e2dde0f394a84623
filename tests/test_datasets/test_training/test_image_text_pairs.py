import json

import pytest
import torch
from torch.utils.data import DataLoader

from mmmaskclip.datasets import ImageTextPairs, collate_image_text
from mmmaskclip.datasets.columns import StringColumn
from mmmaskclip.datasets.training.annotation_files import CaptionTable
from mmmaskclip.datasets.transforms.tokenize import tokenize


@pytest.fixture
def build(tmp_path, tools):
    """Write six photographs and an annotation file, and make the dataset."""
    for i in range(6):
        (tmp_path / f'{i}.jpg').write_bytes(tools.encode(tools.photo(i)))

    def build(name, text, **kwargs):
        path = tmp_path / name
        path.write_text(text, encoding='utf-8')
        return ImageTextPairs(str(path), **{'views': tools.views, **kwargs})

    return build


def _tokens(*captions):
    return [tokens.tolist() for tokens in tokenize(list(captions))]


def _all(dataset):
    return [
        (sample['key'], [tokens.tolist() for tokens in sample['tokens']])
        for sample in map(dataset.__getitem__, range(len(dataset)))
    ]


EXPECTED = [('0.jpg', _tokens('a dog', 'a "big", cat')), ('1.jpg', _tokens('a bird'))]


def test_csv_tsv_and_column_names(build):
    text = 'filepath,id,caption\n0.jpg,1,a dog\n1.jpg,2,a bird\n0.jpg,3,"a ""big"", cat"\n'
    assert _all(build('a.csv', text, test_mode=True)) == EXPECTED
    tabs = 'image\tid\ttitle\n0.jpg\t1\ta dog\n1.jpg\t2\ta bird\n0.jpg\t3\t"a ""big"", cat"\n'
    assert _all(build('a.tsv', tabs, image_key='image', caption_key='title', test_mode=True)) == EXPECTED
    with pytest.raises(ValueError, match=r"has no column \['caption'\], but \['image', 'id', 'title'\]"):
        build('a.tsv', tabs, image_key='image')


def test_jsonl(build):
    lines = [{'filepath': '0.jpg', 'caption': ['a dog', 'a "big", cat']}, {'filepath': '1.jpg', 'caption': 'a bird'}]
    assert _all(build('a.jsonl', '\n'.join(map(json.dumps, lines)), test_mode=True)) == EXPECTED


def test_coco(build):
    content = {
        'images': [{'id': 7, 'file_name': '0.jpg'}, {'id': 5, 'file_name': '1.jpg'}],
        'annotations': [
            {'image_id': 7, 'caption': 'a dog'},
            {'image_id': 5, 'caption': 'a bird'},
            {'image_id': 7, 'caption': 'a "big", cat'},
        ],
    }
    assert _all(build('a.json', json.dumps(content), test_mode=True)) == EXPECTED
    del content['annotations'][0]['caption']
    with pytest.raises(ValueError, match="is no COCO captions file: KeyError 'caption'"):
        build('a.json', json.dumps(content))


def test_karpathy(build, tmp_path):
    content = {
        'images': [
            {'filename': '0.jpg', 'split': 'train', 'sentences': [{'raw': 'a dog'}, {'raw': 'a "big", cat'}]},
            {'filename': '1.jpg', 'split': 'restval', 'sentences': [{'raw': 'a bird'}]},
            {'filepath': 'val', 'filename': '2.jpg', 'split': 'val', 'sentences': [{'raw': 'a horse'}]},
        ]
    }
    (tmp_path / 'val').mkdir()
    (tmp_path / '2.jpg').rename(tmp_path / 'val/2.jpg')
    text = json.dumps(content)
    assert _all(build('a.json', text, split=['train', 'restval'], test_mode=True)) == EXPECTED
    assert _all(build('a.json', text, split='val', test_mode=True)) == [('val/2.jpg', _tokens('a horse'))]
    assert len(build('a.json', text)) == 3
    with pytest.raises(ValueError, match=r"has no split \['test'\], but \['restval', 'train', 'val'\]"):
        build('a.json', text, split='test')


def test_training_sample(build):
    dataset = build('a.csv', 'filepath,caption\n' + ''.join(f'{i % 6}.jpg,caption {i}\n' for i in range(30)))
    dataset.begin_epoch(0, 0, 4)
    assert len(dataset) == 6
    first = [dataset[i] for i in range(6)]
    again = [dataset[i] for i in range(6)]
    dataset.begin_epoch(1, 0, 4)
    later = [dataset[i] for i in range(6)]
    assert set(first[0]) == {'image', 'tokens', 'seed', 'key', 'skipped'}
    assert first[0]['image'].dtype == torch.uint8
    for a, b, c in zip(first, again, later, strict=True):
        assert torch.equal(a['image'], b['image'])
        assert torch.equal(a['tokens'], b['tokens'])
        assert a['seed'] == b['seed'] != c['seed']
    assert any(not torch.equal(a['tokens'], c['tokens']) for a, c in zip(first, later, strict=True))


def test_bad_images_are_replaced_and_each_is_counted_once(build, tmp_path):
    names = [f'{i}.jpg' for i in range(6)]
    names[2:2] = ['lost0.jpg', 'lost1.jpg', 'html.jpg', 'lost2.jpg', 'lost3.jpg']
    (tmp_path / 'html.jpg').write_bytes(b'<html>')
    dataset = build('a.csv', 'filepath,caption\n' + ''.join(f'{name},of {name}\n' for name in names))
    for epoch in range(2):
        dataset.begin_epoch(epoch, 0, 1)
        samples = [dataset[i] for i in range(len(names))]
        skipped = [record for sample in samples for record in sample['skipped']]
        # Neighbours, which a walk to the next good one would count once more for each bad one before them.
        assert [record['key'] for record in skipped] == names[2:7]
        assert [record['cause'] for record in skipped] == ['missing_image'] * 2 + ['not_an_image'] + [
            'missing_image'
        ] * 2
        assert {record['shard'] for record in skipped} == {'a.csv'}
        assert {sample['key'] for sample in samples} == {f'{i}.jpg' for i in range(6)}
        assert len({sample['seed'] for sample in samples}) == len(names)


def test_one_good_image_among_many_is_found(build):
    rows = [*(f'lost{i}.jpg,x' for i in range(200)), '3.jpg,three']
    dataset = build('a.csv', 'filepath,caption\n' + '\n'.join(rows))
    assert {dataset[i]['key'] for i in range(0, 200, 40)} == {'3.jpg'}


def test_nothing_usable_is_an_error(build):
    dataset = build('a.csv', 'filepath,caption\nx.jpg,a\ny.jpg,b\n')
    with pytest.raises(RuntimeError, match='none of 2 tried images .* can be used; e.g. missing_image'):
        dataset[0]
    with pytest.raises(ValueError, match='none of 2 tried images .*data_root='):
        dataset.preflight()
    with pytest.raises(ValueError, match='lists no image with a caption'):
        build('b.csv', 'filepath,caption\n')
    with pytest.raises(ValueError, match='cannot tell the format'):
        build('b.json', '[]')
    with pytest.raises(ValueError, match=r'x.jpg of .* cannot be evaluated: missing_image'):
        build('a.csv', 'filepath,caption\nx.jpg,a\n', test_mode=True)[0]


def test_preflight_passes_when_some_image_is_there(build):
    build('a.csv', 'filepath,caption\nx.jpg,a\n0.jpg,b\n').preflight()


def test_a_bug_in_a_transform_is_raised(build):
    def broken(image):
        raise ZeroDivisionError('a bug')

    dataset = build('a.csv', 'filepath,caption\n0.jpg,a\n', views={'image': [broken]})
    with pytest.raises(ZeroDivisionError):
        dataset[0]


def test_images_without_captions(tmp_path, tools):
    (tmp_path / 'more').mkdir()
    for number, folder in enumerate(['', 'more', 'more']):
        (tmp_path / folder / f'{number}.jpg').write_bytes(tools.encode(tools.photo(number)))
    (tmp_path / 'more/3.jpg').write_bytes(b'no image')
    dataset = ImageTextPairs(str(tmp_path), tools.views, format='images')
    dataset.begin_epoch(0, 0)
    batch = collate_image_text([dataset[number] for number in range(4)])
    assert batch['key'][:3] == ['0.jpg', 'more/1.jpg', 'more/2.jpg']
    assert 'tokens' not in batch
    assert [bad['key'] for bad in batch['skipped']] == ['more/3.jpg']


def test_workers_see_the_epoch(build):
    dataset = build('a.csv', 'filepath,caption\n' + ''.join(f'{i}.jpg,x\n' for i in range(6)))
    loader = DataLoader(dataset, 3, num_workers=1, persistent_workers=True, collate_fn=collate_image_text)
    for epoch in range(2):
        dataset.begin_epoch(epoch, 0, 3)
        seeds = torch.cat([batch['seed'] for batch in loader])
        assert seeds.tolist() == [dataset[i]['seed'] for i in range(6)]


def test_columns():
    strings = ['', 'a', 'ünïcode \ud83d', 'x' * 1000]
    column = StringColumn(strings)
    assert len(column) == 4
    assert [column[i] for i in range(4)] == strings
    table = CaptionTable([('b', 'one'), ('a', 'four'), ('b', 'two'), ('c', 'three')])
    assert len(table) == 3
    assert [table.paths[i] for i in range(3)] == ['b', 'a', 'c']
    assert [table.captions(i) for i in range(3)] == [['one', 'two'], ['four'], ['three']]


def test_coco_tiny(data_root, tools):
    root = data_root / 'coco_tiny'
    dataset = ImageTextPairs(
        str(root / 'annotations/captions_val2017.json'), tools.views, str(root / 'val2017'), test_mode=True
    )
    dataset.preflight()
    batch = collate_image_text([dataset[i] for i in range(3)])
    assert len(dataset) == 79
    assert batch['num_captions'].tolist() == [5, 5, 5]
