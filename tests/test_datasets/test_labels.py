import pytest

from mmmaskclip.datasets.labels import LabelReader
from mmmaskclip.datasets.sampling import BadSample

COUNTS = [['10'], ['3'], ['4'], ['5']]


def test_numbers_and_names():
    read = LabelReader([['cat'], ['dog', 'hound'], ['bird']])
    assert [read(text) for text in (b'0', b' 1\n', b'hound', b'cat', '\ufeffbird'.encode())] == [0, 1, 1, 0, 2]
    for text in (b'3', b'-1', '²'.encode(), b'cow', b'', b'9' * 30):
        with pytest.raises(BadSample, match='unknown_label'):
            read(text)
    assert LabelReader([])(b'-7') == -7
    with pytest.raises(BadSample, match="'cow' is no number"):
        LabelReader([])(b'cow')


def test_names_that_are_numbers():
    read = LabelReader(COUNTS)
    with pytest.raises(BadSample, match="ambiguous_label: '3' is the name of class 1 and the number of another"):
        read(b'3')
    # No class has the number 4, so it can only be the name.
    assert [read(b'4'), read(b'5'), read(b'10'), read(b'0')] == [2, 3, 0, 0]
    assert LabelReader(COUNTS, 'name')(b'3') == 1
    assert LabelReader(COUNTS, 'number')(b'3') == 3
    assert LabelReader([['0'], ['1'], ['2']])(b'2') == 2
    with pytest.raises(ValueError, match="label_by='names'"):
        LabelReader(COUNTS, 'names')
