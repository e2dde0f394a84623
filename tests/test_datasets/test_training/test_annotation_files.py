"""Lists of images: every physical row is delivered or counted, whatever stands in it, and evaluation refuses."""

import json

import pytest

from mmmaskclip.datasets import ImageTextPairs
from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.annotation_files import read_pairs

# Captions as cells and as values; what is left of them, or the cause under which they are counted.
CELLS = [
    ('a cat', 'a cat'),
    ('"he said', '"he said'),
    ('say "hi"', 'say "hi"'),
    ('', 'empty_caption'),
    (' ', 'empty_caption'),
    ('&nbsp;', 'empty_caption'),
    ('nan', 'nan'),
    ('x' * 200_000, 'x' * 200_000),
    ('a\x00b', 'a\x00b'),
    ('\u2028line', '\u2028line'),
    ("it's", "it's"),
]
VALUES = [*CELLS, (None, 'empty_caption'), (float('nan'), 'empty_caption'), (3, 'empty_caption'), ({}, 'empty_caption')]
VALUES += [([], 'missing_caption'), ('lost surrogate \ud83d', 'lost surrogate \ud83d')]


def _quoted(cell):
    return '"' + cell.replace('"', '""') + '"'


def _csv(rows, mark, quote=_quoted, separator=','):
    lines = [separator.join(['filepath', 'id', 'caption'])]
    lines += [separator.join([f'{i}.jpg', '1', quote(caption)]) for i, caption in enumerate(rows)]
    # A row that ends early and one without a path; a blank line is no row.
    lines += [f'short.jpg{separator}1', f'{separator}1{separator}x', '']
    return mark + '\n'.join(lines), ['broken_row', 'missing_image']


def _tsv(rows, mark):
    return _csv(rows, mark, str, '\t')


def _jsonl(rows, mark):
    lines = [json.dumps({'filepath': f'{i}.jpg', 'caption': caption}) for i, caption in enumerate(rows)]
    lines += ['{"filep', '{"caption": "x"}', '{"filepath": 3, "caption": "x"}', '[]', '[' * 100_000, '']
    lines += ['{"filepath": "no.jpg"}']
    causes = ['broken_json', 'missing_image', 'missing_image', 'missing_image', 'broken_json', 'missing_caption']
    return mark + '\n'.join(lines), causes


def _coco(rows, mark):
    # A caption of COCO is one value; a list is none.
    rows = [None if caption == [] else caption for caption in rows]
    images = [{'id': i, 'file_name': f'{i}.jpg'} for i in range(len(rows) + 1)]
    annotations = [{'image_id': i, 'caption': caption} for i, caption in enumerate(rows)]
    annotations.append({'image_id': 99, 'caption': 'of no image'})
    return mark + json.dumps({'images': images, 'annotations': annotations}), ['missing_image', 'missing_caption']


def _karpathy(rows, mark):
    rows = [None if caption == [] else caption for caption in rows]
    images = [{'split': 't', 'filename': f'{i}.jpg', 'sentences': [{'raw': text}]} for i, text in enumerate(rows)]
    images.append({'split': 't', 'filename': 'no.jpg', 'sentences': []})
    return mark + json.dumps({'images': images}), ['missing_caption']


WRITERS = {'csv': _csv, 'tsv': _tsv, 'jsonl': _jsonl, 'coco': _coco, 'karpathy': _karpathy}


@pytest.mark.parametrize('mark', ['', '\ufeff'])
@pytest.mark.parametrize('format', WRITERS)
def test_physical_rows_are_rows_delivered_and_rows_counted(format, mark, tmp_path):
    values = VALUES if format in ('jsonl', 'coco', 'karpathy') else [*CELLS, ('NaN ', 'empty_caption')]
    if format in ('csv', 'tsv'):  # where json has a value of its own for it
        values = [(cell, 'empty_caption' if cell == 'nan' else kept) for cell, kept in values]
    text, causes = WRITERS[format]([value for value, _ in values], mark)
    path = tmp_path / f'a.{format}'
    path.write_text(text, encoding='utf-8', newline='')
    bad = []
    pairs = list(read_pairs(str(path), format, 'filepath', 'caption', None, bad))
    if format in ('coco', 'karpathy'):
        values = [(value, 'empty_caption' if value == [] else expected) for value, expected in values]
    good = [(f'{i}.jpg', kept) for i, (_, kept) in enumerate(values) if not kept.endswith('_caption')]
    assert pairs == good
    expected = [kept for _, kept in values if kept.endswith('_caption')] + causes
    assert sorted(problem.cause for problem in bad) == sorted(expected)
    assert len(pairs) + len(bad) == len(values) + len(causes)


@pytest.mark.parametrize('format', WRITERS)
def test_evaluation_refuses_rows_without_a_use(format, tmp_path, tools):
    text, _ = WRITERS[format](['a', None if format != 'csv' and format != 'tsv' else '', 'b'], '')
    path = tmp_path / f'a.{format}'
    path.write_text(text, encoding='utf-8')
    message = rf'a\.{format} .*has \d rows that cannot be used[\s\S]*empty_caption: (line|image) \d'
    with pytest.raises(ValueError, match=message):
        ImageTextPairs(str(path), tools.views, format=format, test_mode=True)
    assert len(ImageTextPairs(str(path), tools.views, format=format)) == 2


def _read(path, format):
    bad: list[BadSample] = []
    return list(read_pairs(str(path), format, 'filepath', 'caption', None, bad)), bad


@pytest.mark.parametrize('ending', ['\n', ',y"\n', '"\n', '" and more,z\n'])
def test_an_unclosed_quotation_mark_in_a_csv_is_an_error_with_its_line(tmp_path, ending):
    rows = [f'{i}.jpg,caption {i}\n' for i in range(6)]
    rows[1] = '1.jpg,"he said\n'
    rows[4] = rows[4].rstrip('\n') + ending
    (tmp_path / 'a.csv').write_text('filepath,caption\n' + ''.join(rows))
    with pytest.raises(ValueError, match=r'a\.csv: .*line 3'):
        _read(tmp_path / 'a.csv', 'csv')


def test_a_caption_of_several_lines_in_a_csv_is_one(tmp_path):
    (tmp_path / 'a.csv').write_text('filepath,caption\n0.jpg,"one,\ntwo, three\n\nfour"\n1.jpg,x\n')
    pairs, bad = _read(tmp_path / 'a.csv', 'csv')
    assert pairs == [('0.jpg', 'one,\ntwo, three\n\nfour'), ('1.jpg', 'x')]
    assert bad == []


def test_a_file_that_is_no_utf8_is_named(tmp_path):
    for format in ('csv', 'tsv', 'jsonl'):
        path = tmp_path / f'a.{format}'
        path.write_bytes('filepath,caption\n0.jpg,café\n'.encode('latin-1'))
        with pytest.raises(ValueError, match=rf'a\.{format}: line 2 is not UTF-8'):
            _read(path, format)
