import pytest

from mmmaskclip.analysis.step_parts import PartClock


class Model:
    def outer(self):
        self.inner(2)
        return 'result'

    def inner(self, factor):
        """Takes time on the test's clock."""


@pytest.fixture
def clock(monkeypatch):
    clock = PartClock('cpu')
    now = [0.0]
    monkeypatch.setattr(clock, '_now', lambda: now[0])
    clock.wait = lambda seconds: now.__setitem__(0, now[0] + seconds)
    return clock


def test_time_of_inner_parts_counts_once(clock):
    model = Model()
    model.inner = lambda factor: clock.wait(3 * factor)
    clock.watch(model, 'inner', lambda factor: f'inner times {factor}')
    clock.watch(model, 'outer', 'outer')
    with clock.part('step'):
        clock.wait(1)
        assert model.outer() == 'result'
        with clock.part('outer'):
            clock.wait(2)
    assert clock.seconds == {'step': 1.0, 'outer': 2.0, 'inner times 2': 6.0}
