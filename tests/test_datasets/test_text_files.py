import pytest

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.text_files import parse_json, read_json, read_lines, read_text


def test_byte_order_marks_and_line_ends(tmp_path):
    (tmp_path / 'a.txt').write_bytes('\ufeffone\r\ntwo\rthree\n'.encode())
    assert list(read_lines(tmp_path / 'a.txt')) == ['one\n', 'two\n', 'three\n']
    (tmp_path / 'a.json').write_bytes('\ufeff["é"]'.encode())
    assert read_json(tmp_path / 'a.json') == ['é']


def test_errors_name_file_and_line(tmp_path):
    (tmp_path / 'a.csv').write_bytes(b'a\nb\ncaf\xe9\n')
    with pytest.raises(ValueError, match=r'a\.csv: line 3 is not UTF-8 \(byte 0xe9\). Save the file as UTF-8'):
        read_text(tmp_path / 'a.csv')
    for content in (b'{', b'[' * 100_000, b'\xff'):
        (tmp_path / 'a.json').write_bytes(content)
        with pytest.raises(ValueError, match=r'a\.json'):
            read_json(tmp_path / 'a.json')


@pytest.mark.parametrize(
    ('text', 'cause'), [('{', 'broken_json'), ('[' * 100_000, 'broken_json'), (b'\xff', 'not_utf8')]
)
def test_whatever_the_parser_raises_has_a_cause(text, cause):
    with pytest.raises(BadSample) as caught:
        parse_json(text)
    assert caught.value.cause == cause
