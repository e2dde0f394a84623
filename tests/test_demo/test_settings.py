"""What a browser may ask for."""

import pytest

from mmmaskclip.demo.photos import Refused
from mmmaskclip.demo.settings import Settings, check_words


def test_words_lose_their_blanks():
    assert check_words(['  a  red ring ', 'dog']) == ('a red ring', 'dog')
    assert check_words([]) == ()


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['dog', '  '], 'A word is empty'),
        ([f'word {index}' for index in range(200)], '200 words are too many for one page: the most is 24'),
        (['dog', 'cat', 'dog '], '"dog" is given twice'),
        (['x' * 301], 'has 301 letters'),
        ('dog', 'must be a list of texts'),
        ([3], 'must be a list of texts'),
    ],
)
def test_words_that_make_no_map_get_a_sentence(words, sentence):
    with pytest.raises(Refused, match=sentence):
        check_words(words)


def test_settings_are_checked():
    assert Settings.read(None) == Settings()
    assert Settings.read({'size': 96, 'mode': 'sliding', 'background': 0.4, 'other': 1}) == Settings(
        'patch', 96, 'sliding', 0.4
    )
    for key, value in (('read_out', 'x'), ('mode', 'x'), ('size', 5000), ('size', 'big'), ('background', 2)):
        with pytest.raises(Refused, match=str(value)):
            Settings.read({key: value})
