import io
import sys
from types import SimpleNamespace

import pytest

from mmmaskclip.utils import progress
from mmmaskclip.utils.progress import progress_bar, track


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def be(monkeypatch):
    """Makes stderr what it is given; to be called in the test itself, because pytest sets its own before."""

    def be(stream):
        monkeypatch.setattr('sys.stderr', stream)
        monkeypatch.setenv('TERM', 'xterm')
        return stream

    return be


def test_a_terminal_sees_a_bar_with_the_count_and_one_within_another(be):
    stderr = be(_Terminal())
    for _ in track(['a', 'b'], 'Sets'):
        assert list(track(iter(range(3)), 'Evaluating', 3)) == [0, 1, 2]
    text = stderr.getvalue()
    assert 'Sets' in text
    assert 'Evaluating' in text
    assert '3/3' in text


def test_a_bar_is_moved_by_several_items(be):
    stderr = be(_Terminal())
    with progress_bar('Images', 10) as advance:
        advance(4)
        advance(6)
    assert '10/10' in stderr.getvalue()


def test_a_log_file_and_other_processes_see_nothing(be, monkeypatch):
    stderr = be(io.StringIO())
    assert list(track([1, 2], 'Sets')) == [1, 2]
    with progress_bar('Images', 5) as advance:
        advance(5)
    assert stderr.getvalue() == ''
    stderr = be(_Terminal())
    with progress_bar('Images', 5, shown=False) as advance:
        advance(5)
    assert stderr.getvalue() == ''
    monkeypatch.setattr(progress, 'is_main_process', lambda: False)
    stderr = be(_Terminal())
    assert list(track([1, 2], 'Sets')) == [1, 2]
    assert stderr.getvalue() == ''


def test_a_notebook_sees_a_line_without_widgets(monkeypatch):
    shown = []

    class Handle:
        def update(self, content, raw):
            shown.append(content['text/plain'])

    def display(content, raw, display_id):
        shown.append(content['text/plain'])
        return Handle()

    kernel = SimpleNamespace(get_ipython=lambda: SimpleNamespace(config={'IPKernelApp': {}}))
    monkeypatch.setitem(sys.modules, 'IPython', kernel)
    monkeypatch.setitem(sys.modules, 'IPython.display', SimpleNamespace(display=display))
    monkeypatch.setattr(progress, '_BETWEEN_LINES', 0)
    assert list(track([1, 2], 'Sets')) == [1, 2]
    assert [line.split(',')[0] for line in shown] == ['Sets', 'Sets: 1 of 2', 'Sets: 2 of 2', '']
    assert shown[2].endswith('0:00:00 left')
    shown.clear()
    monkeypatch.setattr(progress, 'is_main_process', lambda: False)
    assert list(track([1, 2], 'Sets')) == [1, 2]
    assert shown == []
