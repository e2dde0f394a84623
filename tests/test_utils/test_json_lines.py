import json
import os
import resource
import signal

import pytest

from mmmaskclip.utils.json_lines import append_json_lines


def _read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_records_are_appended_line_by_line(tmp_path):
    path = tmp_path / 'list.jsonl'
    assert append_json_lines(path, [{'a': 1}, {'b': 'é\n'}])
    assert append_json_lines(path, [{'c': None}])
    assert _read(path) == [{'a': 1}, {'b': 'é\n'}, {'c': None}]


def test_half_a_line_of_a_killed_process_swallows_nothing(tmp_path):
    path = tmp_path / 'list.jsonl'
    path.write_text('{"a": 1}\n{"b"')
    append_json_lines(path, [{'c': 3}])
    assert path.read_text() == '{"a": 1}\n{"b"\n{"c": 3}\n'


def test_where_the_space_ends_no_half_line_stays(tmp_path):
    path = tmp_path / 'list.jsonl'
    assert append_json_lines(path, [{'a': 1}])
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Else the signal of a file that is too large would end the process.
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, limit[1]))
    try:
        assert not append_json_lines(path, [{'b': 'x' * 100}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert append_json_lines(path, [{'c': 3}])
    assert _read(path) == [{'a': 1}, {'c': 3}]


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='no device that is always full')
def test_a_full_disk_is_no_error_and_other_faults_are(tmp_path):
    (tmp_path / 'list.jsonl').symlink_to('/dev/full')
    assert not append_json_lines(tmp_path / 'list.jsonl', [{'a': 1}])
    with pytest.raises(FileNotFoundError):
        append_json_lines(tmp_path / 'none/list.jsonl', [{'a': 1}])
