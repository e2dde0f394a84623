"""The page in a real browser: what a person does, and what this person sees."""

import base64
import io
import threading

import numpy as np
import pytest
from chromium import Chromium, needs_chromium
from PIL import Image

from mmmaskclip.datasets.scenes.generator import object_mask
from mmmaskclip.demo.folders import FolderSearch
from mmmaskclip.demo.seen_models import SeenModel
from mmmaskclip.demo.server import DemoServer

pytestmark = needs_chromium


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp('profile')) as browser:
        yield browser


@pytest.fixture(scope='module')
def server(model, tmp_path_factory):
    models = [model, SeenModel('the same', model.inferencer)]
    folders = FolderSearch(models, cache=tmp_path_factory.mktemp('cache'))
    with DemoServer(models, port=0, folders=folders) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def open_page(browser, server, tmp_path):
    """Opens the page for one more person, with the scene as its photo."""

    def open_page():
        page = browser.open(server.address, tmp_path)
        page.wait('document.querySelectorAll("#examples button").length === 4')
        page.click('#examples button:nth-child(2)')
        page.wait('page.photo !== null && page.models.length === 2')
        return page

    browser.events.clear()
    return open_page


def hottest(page, word):
    """Where the map of a word, as the browser shows it, is hottest: across and down, from 0 to 1."""
    url = page.evaluate(f'document.querySelector(\'figure[data-word="{word}"] .over\').src')
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(',')[2]))))
    row, column = np.unravel_index(levels.argmax(), levels.shape)
    return (column + 0.5) / levels.shape[1], (row + 0.5) / levels.shape[0]


def test_words_are_typed_and_their_maps_hit_the_objects(open_page, scene, server):
    page = open_page()
    words = [thing.colour for thing in scene.objects]
    for word in words:
        page.type('#word', word)
    page.wait(f'document.querySelectorAll("#words figure").length === {2 * len(words)}')
    for thing in scene.objects:
        across, down = hottest(page, thing.colour)
        assert object_mask(thing, 320)[int(down * 320), int(across * 320)]
    # The map lies on the photo, and the slider fades it.
    boxes = page.evaluate('[...document.querySelector("#words .stack").querySelectorAll("img")].map((n) => {'
                          'const b = n.getBoundingClientRect(); return [b.x, b.y, b.width, b.height]; })')  # fmt: skip
    assert boxes[0] == pytest.approx(boxes[1], abs=0.6)
    page.evaluate('byId("opacity").value = 0.2; byId("opacity").dispatchEvent(new Event("input"))')
    assert page.evaluate('document.querySelector("#words .over").style.opacity') == '0.2'
    # A chip that is closed takes its map along.
    page.click('[data-chips] .chip button')
    page.wait(f'document.querySelectorAll("#words figure").length === {2 * len(words) - 2}')
    assert page.faults() == []
    assert all(address.startswith(server.address) for address in page.addresses())


def test_tabs_show_segmentation_components_and_likeness(open_page, scene):
    page = open_page()
    page.type('#word', 'red, green')
    page.wait('document.querySelectorAll("#words figure").length === 4')
    page.evaluate('byId("level").value = 0.7')
    for kind in ('input', 'change'):
        page.evaluate(f'byId("level").dispatchEvent(new Event("{kind}"))')
    assert page.evaluate('byId("background").checked')
    page.click('[data-tab=segmentation]')
    page.wait('document.querySelector("#segmentation .legend")?.innerText.includes("background")')
    assert page.evaluate('byId("words").hidden && !byId("segmentation").hidden')
    page.click('[data-tab=components]')
    assert page.evaluate('byId("components").innerText.includes("variance: red")')
    page.click('[data-tab=likeness]')
    red = next(thing for thing in scene.objects if thing.colour == 'red')
    page.click('#likeness .stack', red.x, red.y)
    page.wait('page.picked !== null')
    assert page.evaluate('page.picked[1].cell') == [int(red.y * 8), int(red.x * 8)]
    assert page.evaluate('document.querySelectorAll("#likeness .ring").length') == 2
    assert page.faults() == []


def test_files_are_downloaded_and_the_page_of_one_file_works_without_a_server(open_page, browser, tmp_path, scene):
    page = open_page()
    page.type('#word', 'red,yellow')
    page.wait('document.querySelectorAll("#words figure").length === 4')
    for kind in ('npz', 'png', 'html'):
        page.click(f'[data-kind={kind}]')
        path = tmp_path / f'maps.{kind}'
        for _ in range(400):
            page.evaluate('new Promise((done) => { setTimeout(done, 25); })')
            if path.is_file() and path.stat().st_size:
                break
        assert path.is_file(), kind
    with np.load(tmp_path / 'maps.npz') as content:
        assert content['maps_0'].shape == (2, 8, 8)
    assert Image.open(tmp_path / 'maps.png').width > 400
    browser.events.clear()
    alone = browser.open((tmp_path / 'maps.html').as_uri(), tmp_path)
    alone.wait('document.querySelectorAll("#words figure").length === 4')
    yellow = next(thing for thing in scene.objects if thing.colour == 'yellow')
    across, down = hottest(alone, 'yellow')
    assert object_mask(yellow, 320)[int(down * 320), int(across * 320)]
    alone.click('[data-chips-static] .chip')
    assert alone.evaluate('document.querySelectorAll("#words figure").length') == 2
    alone.click('[data-tab=likeness]')
    alone.click('#likeness .stack', yellow.x, yellow.y)
    alone.wait('page.picked !== null')
    assert alone.evaluate('page.picked[0].cell') == [int(yellow.y * 8), int(yellow.x * 8)]
    assert alone.evaluate('[...document.querySelectorAll(".live")].every((node) => node.offsetParent === null)')
    assert alone.faults() == []
    assert all(address.startswith('file:') for address in alone.addresses())


def test_two_people_see_their_own_photos_and_words(open_page):
    one, other = open_page(), open_page()
    one.click('#examples button:nth-child(1)')
    one.type('#word', 'orange')
    other.type('#word', 'red')
    for page, word in ((one, 'orange'), (other, 'red')):
        page.wait(f'document.querySelectorAll(\'#words figure[data-word="{word}"]\').length === 2')
        assert page.evaluate('page.words') == [word]
    assert one.evaluate('page.photo.key') != other.evaluate('page.photo.key')


def test_photos_come_by_file_drop_paste_and_webcam_and_bad_ones_get_a_sentence(open_page, tmp_path):
    page = open_page()
    for name, size in (('file', 40), ('drop', 48)):
        Image.new('RGB', (size, size), 'blue').save(tmp_path / f'{name}.png')
    page.choose_files('#file', tmp_path / 'file.png')
    page.wait('page.photo.width === 40')
    box = page.evaluate('(({x, y}) => [x + 20, y + 20])(byId("drop").getBoundingClientRect())')
    data = dict(items=[], files=[str(tmp_path / 'drop.png')], dragOperationsMask=1)
    for kind in ('dragEnter', 'dragOver', 'drop'):
        page.call('Input.dispatchDragEvent', type=kind, x=box[0], y=box[1], data=data)
    page.wait('page.photo.width === 48')
    page.evaluate(
        'new Promise((done) => { const c = document.createElement("canvas"); c.width = c.height = 56; c.toBlob((b) => {'
        'const data = new DataTransfer(); data.items.add(new File([b], "a.png", {type: "image/png"}));'
        'document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data})); done(); }); })'
    )
    page.wait('page.photo.width === 56')
    page.click('#webcam')
    page.wait('byId("video").videoWidth > 0')
    page.click('#take')
    page.wait('page.photo.width > 100 && byId("camera").hidden')
    (tmp_path / 'no.png').write_bytes(b'<html>')
    page.choose_files('#file', tmp_path / 'no.png')
    page.wait('!byId("message").hidden && byId("message").innerText.includes("The file is no image")')
    page.type('#word', '')
    page.wait('byId("message").innerText.includes("A word is empty")')
    page.type('#word', ','.join(f'w{index}' for index in range(200)))
    page.wait('byId("message").innerText.includes("200 words are too many")')
    assert page.faults() == []


def test_a_folder_is_indexed_and_searched(open_page, tmp_path):
    page = open_page()
    folder = tmp_path / 'photos'
    folder.mkdir()
    for colour, size in (('red', 40), ('green', 44), ('blue', 48)):
        Image.new('RGB', (size, size), colour).save(folder / f'{colour}.png')
    page.click('[data-tab=search]')
    page.type('#folder', str(folder), enter=False)
    page.click('#index')
    page.wait('byId("indexed").innerText.includes("3 of 3 photos")')
    page.type('#query', 'green')
    page.wait('document.querySelectorAll("#found button").length === 3')
    assert page.evaluate('document.querySelector("#found span").innerText').endswith('green.png')
    page.click('#found button')
    page.wait('page.photo.width === 44')
    assert page.evaluate('!byId("words").hidden')
    assert page.faults() == []
