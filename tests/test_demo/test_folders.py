"""Search of a folder: progress, a cached index, and nothing outside of it."""

import pytest
from PIL import Image

from mmmaskclip.demo.folders import FolderSearch
from mmmaskclip.demo.photos import Refused


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    for colour in ('red', 'green', 'blue'):
        Image.new('RGB', (64, 48), colour).save(folder / f'{colour}.png')
    (folder / 'broken.jpg').write_bytes(b'<html>')
    return folder


def test_a_folder_is_indexed_searched_and_remembered(photos, model, tmp_path, monkeypatch):
    search = FolderSearch([model], cache=tmp_path / 'cache')
    made = search.start(str(photos), 0)
    assert made.finished.wait(30)
    state = made.state()
    assert (state['done'], state['total'], state['num_bad'], state['problem']) == (4, 4, 1, None)
    assert 'broken.jpg' in state['bad'][0]
    found = search.search(str(photos), 0, 'green')
    assert [one['name'] for one in found][0] == 'green.png'
    assert search.photo_path(str(photos), 0, found[0]['place']) == photos / 'green.png'

    embedded = []
    embed = model.inferencer._embed
    monkeypatch.setattr(
        model.inferencer, '_embed', lambda paths, *rest: [embedded.extend(paths), embed(paths, *rest)][1]
    )
    Image.new('RGB', (64, 48), 'yellow').save(photos / 'yellow.png')
    again = FolderSearch([model], cache=tmp_path / 'cache')
    assert again.start(str(photos), 0).finished.wait(30)
    assert [path.rpartition('/')[2] for path in embedded] == ['broken.jpg', 'yellow.png']
    assert len(again.search(str(photos), 0, 'red')) == 4


def test_a_damaged_cache_is_made_anew(photos, model, tmp_path):
    for _ in range(2):
        search = FolderSearch([model], cache=tmp_path / 'cache')
        made = search.start(str(photos))
        assert made.finished.wait(30)
        assert made.problem is None
        for path in (tmp_path / 'cache').iterdir():
            path.write_bytes(b'PK damaged')


def test_what_cannot_be_searched_gets_a_sentence(photos, model, tmp_path):
    search = FolderSearch([model], cache=tmp_path / 'cache')
    with pytest.raises(Refused, match='nowhere is no folder'):
        search.start(str(tmp_path / 'nowhere'))
    with pytest.raises(Refused, match='no folder yet'):
        search.start(' ')
    with pytest.raises(Refused, match='no index yet'):
        search.search(str(photos), 0, 'red')
    with pytest.raises(Refused, match='no model 3'):
        search.start(str(photos), 3)
    (tmp_path / 'empty').mkdir()
    made = search.start(str(tmp_path / 'empty'))
    assert made.finished.wait(30)
    assert 'holds no image' in made.state()['problem']
    with pytest.raises(Refused, match='holds no image'):
        search.search(str(tmp_path / 'empty'), 0, 'red')
    made = search.start(str(photos))
    assert made.finished.wait(30)
    with pytest.raises(Refused, match='is empty: type a word'):
        search.search(str(photos), 0, ' ')
    with pytest.raises(Refused, match='no such photo'):
        search.photo_path(str(photos), 0, 99)
    with pytest.raises(Refused, match='this machine alone'):
        FolderSearch([model], allowed=False).start(str(photos))
