"""The page over HTTP, without a browser."""

import http.client
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from mmmaskclip.demo import server as server_module
from mmmaskclip.demo.folders import FolderSearch
from mmmaskclip.demo.server import DemoServer


@pytest.fixture(scope='module')
def server(model, tmp_path_factory):
    folders = FolderSearch([model, model], cache=tmp_path_factory.mktemp('cache'))
    with DemoServer([model, model], port=0, folders=folders) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def ask(server):
    """Posts JSON or bytes; returns the status and the answer."""

    def ask(path, content, headers=(), method='POST'):
        connection = http.client.HTTPConnection('127.0.0.1', server.server_address[1], timeout=30)
        is_file = isinstance(content, bytes)
        kind = 'application/octet-stream' if is_file else 'application/json'
        body = content if is_file else json.dumps(content).encode()
        connection.request(method, path, body, {'X-Demo': '1', 'Content-Type': kind, **dict(headers)})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data) if answer.headers['Content-Type'] == 'application/json' else data

    return ask


def png(*size, colour='red'):
    file = io.BytesIO()
    Image.new('RGB', size, colour).save(file, 'PNG')
    return file.getvalue()


def test_the_page_may_load_and_send_nothing_elsewhere(server):
    connection = http.client.HTTPConnection('127.0.0.1', server.server_address[1], timeout=30)
    connection.request('GET', '/')
    answer = connection.getresponse()
    page = answer.read().decode()
    connection.close()
    assert answer.status == 200
    policy = answer.headers['Content-Security-Policy']
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert 'http' not in policy
    assert 'http://' not in page
    assert 'https://' not in page


def test_it_listens_on_this_machine_alone(model):
    with DemoServer([model], port=0) as server:
        assert server.server_address[0] == '127.0.0.1'
        assert server.folders.allowed
    with DemoServer([model], host='0.0.0.0', port=0) as server:
        assert not server.folders.allowed
        assert server.address.startswith('http://localhost:')


def test_a_photo_with_words_gets_a_view_of_each_model(ask):
    status, state = ask('/api/state', {})
    assert status == 200
    assert [model['name'] for model in state['models']] == ['colours', 'colours']
    assert 'naclip' in state['read_outs']
    status, photo = ask('/api/photo', {'example': state['examples'][1]['key']})
    assert (status, photo['width']) == (200, 320)
    status, view = ask('/api/view', {'photo': photo['key'], 'words': [' red'], 'settings': {'size': 96}})
    assert status == 200
    assert view['words'] == ['red']
    assert [model['grid'] for model in view['models']] == [[12, 12], [12, 12]]
    status, view = ask('/api/patch', {'photo': photo['key'], 'x': 0.99, 'y': 0.0})
    assert view['models'][1]['cell'] == [0, 7]
    status, data = ask('/api/download', {'photo': photo['key'], 'words': ['red'], 'kind': 'npz'})
    assert np.load(io.BytesIO(data))['maps_0'].shape == (1, 8, 8)


def test_an_own_photo_is_read(ask):
    status, photo = ask('/api/photo', png(60, 30))
    assert (status, photo['width'], photo['height']) == (200, 60, 30)
    status, view = ask('/api/view', {'photo': photo['key'], 'words': ['red']})
    assert (status, view['models'][0]['grid']) == (200, [8, 16])


@pytest.mark.parametrize(
    ('path', 'content', 'sentence'),
    [
        ('/api/photo', b'<html>', 'The file is no image'),
        ('/api/photo', b'', 'The file is empty'),
        ('/api/photo', {'example': 'none'}, 'no such example'),
        ('/api/view', {'words': ['red']}, 'There is no photo yet'),
        ('/api/view', {'photo': 'gone', 'words': ['red']}, 'open it again'),
        ('/api/view', {'photo': 'gone', 'words': ['']}, 'A word is empty'),
        ('/api/view', {'photo': 'gone', 'words': [f'{index}' for index in range(200)]}, '200 words are too many'),
        ('/api/view', [], 'no JSON object'),
        ('/api/index', {'folder': '/nowhere', 'start': True}, '/nowhere is no folder'),
        ('/api/search', {'folder': '/', 'query': 'red'}, 'no index yet'),
    ],
)
def test_bad_input_gets_a_sentence(ask, path, content, sentence):
    status, answer = ask(path, content)
    assert status == 400
    assert sentence in answer['message']
    assert 'Traceback' not in answer['message']


def test_a_fault_of_ours_gets_a_sentence_too_and_the_terminal_gets_the_trace(ask, monkeypatch, capfd):
    def fail(*_):
        raise ZeroDivisionError('division by zero')

    monkeypatch.setitem(server_module._ANSWERS, '/api/view', fail)
    status, answer = ask('/api/view', {})
    assert (status, answer['message']) == (
        500,
        'The server failed with ZeroDivisionError: division by zero. Its terminal says where.',
    )


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(ask):
    status, answer = ask('/api/photo', b'x', {'Content-Length': str(10**9)})
    assert (status, answer['message']) == (400, 'The file has 1,000 MB: the most is 100 MB.')


def test_pages_of_others_may_not_ask(ask):
    assert ask('/api/state', {}, {'X-Demo': ''})[0] == 403
    assert ask('/api/state', {}, {'Host': 'evil.example:7860'})[0] == 403
    assert ask('/', {}, {'Host': 'evil.example:7860'}, 'GET')[0] == 403
    assert ask('/api/other', {})[0] == 404
    assert ask('/etc/passwd', {}, method='GET')[0] == 404


def test_a_folder_is_searched(ask, tmp_path):
    for colour in ('red', 'green'):
        (tmp_path / f'{colour}.png').write_bytes(png(64, 64, colour=colour))
    asked = {'folder': str(tmp_path), 'model': 1}
    state = ask('/api/index', {**asked, 'start': True})[1]
    while not state['finished']:
        state = ask('/api/index', asked)[1]
    assert state['total'] == 2
    found = ask('/api/search', {**asked, 'query': 'red'})[1]['found']
    assert found[0]['name'] == 'red.png'
    assert found[0]['url'].startswith('data:image/jpeg')
    status, photo = ask('/api/photo', {**asked, 'place': found[0]['place']})
    assert (status, photo['width']) == (200, 64)


def test_two_people_at_once_get_their_own_answers(ask):
    photos = [ask('/api/photo', png(64, 64, colour=colour))[1]['key'] for colour in ('red', 'green')]
    answers = {}

    def person(number):
        for _ in range(3):
            view = ask('/api/view', {'photo': photos[number], 'words': ['red', 'green']})[1]
            answers.setdefault(number, []).append(
                [entry['share'] for entry in view['models'][0]['segmentation']['legend']]
            )

    threads = [threading.Thread(target=person, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {0: [[1, 0]] * 3, 1: [[0, 1]] * 3}
