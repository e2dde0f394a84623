"""The files that the page offers."""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.demo.downloads import make_download, make_page
from mmmaskclip.demo.photos import Refused
from mmmaskclip.demo.settings import Settings


def test_similarities_are_those_of_the_maps(photo, model):
    data = make_download('npz', photo, [model, model], ('red', 'green'), Settings())
    with np.load(io.BytesIO(data), allow_pickle=False) as content:
        assert content['words'].tolist() == ['red', 'green']
        assert content['models'].tolist() == ['colours', 'colours']
        assert content['image_size'].tolist() == [320, 320]
        np.testing.assert_allclose(content['maps_1'], model.maps(photo, ['red', 'green'], Settings()))


def test_the_picture_has_a_row_per_model(photo, model):
    heights = [
        Image.open(io.BytesIO(make_download('png', photo, [model] * count, ('red',), Settings()))).height
        for count in (1, 2)
    ]
    assert heights[1] > 1.6 * heights[0]


def test_the_file_that_works_alone_holds_everything_and_names_no_other_host(photo, model):
    page = make_download('html', photo, [model], ('red', '</script><b>'), Settings()).decode()
    given = json.loads(re.search(r'GIVEN = (.*);\n', page)[1])
    assert given['words'] == ['red', '</script><b>']
    assert page.count('</script>') == 1
    assert given['models'][0]['pairs']['url'].startswith('data:image/png')
    assert not re.search(r'https?://|src="(?!data:)|@import|url\(', page)
    assert 'fetch(' not in page
    assert 'fetch(' in make_page()
    assert len(page) < 1_000_000


@pytest.mark.parametrize(('kind', 'words', 'sentence'), [('exe', ('red',), 'no download'), ('png', (), 'no word yet')])
def test_what_cannot_be_downloaded_gets_a_sentence(photo, model, kind, words, sentence):
    with pytest.raises(Refused, match=sentence):
        make_download(kind, photo, [model], words, Settings())
