import pytest

from mmmaskclip.models.ramp import Ramp


def test_linear_from_begin_to_end():
    momentum = Ramp.of(dict(begin=0.999, end=0.9999))
    assert [momentum(p) for p in (0, 0.5, 1)] == pytest.approx([0.999, 0.99945, 0.9999])


def test_constant_outside_of_start_and_stop():
    ramp = Ramp(0.0, 1.0, start=0.2, stop=0.4)
    assert [ramp(p) for p in (0.1, 0.2, 0.3, 0.4, 0.9)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_cosine():
    ramp = Ramp(0.0, 1.0, curve='cosine')
    assert [ramp(p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([0, 0.1464466, 0.5, 1])


def test_number_is_a_constant():
    assert Ramp.of(0.05)(0.7) == 0.05


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="curve='log'"):
        Ramp(0, 1, curve='log')
    with pytest.raises(ValueError, match='start=0.5, stop=0.5'):
        Ramp(0, 1, start=0.5, stop=0.5)
