import errno

import pytest

from mmmaskclip.utils.distributed import raise_everywhere


@pytest.mark.parametrize(
    ('sent', 'error'), [((True, errno.ENOSPC, 'full'), OSError), ((False, None, 'broken'), RuntimeError)]
)
def test_error_of_the_first_rank_is_raised_on_the_others(monkeypatch, sent, error):
    def broadcast(values):
        values[0] = sent

    monkeypatch.setattr('mmmaskclip.utils.distributed.broadcast_object_list', broadcast)
    with pytest.raises(error, match=sent[2]) as caught:
        raise_everywhere(None)
    assert getattr(caught.value, 'errno', None) == sent[1]
