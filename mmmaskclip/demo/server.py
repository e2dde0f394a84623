"""The server of the page, on the standard library alone.

Not gradio: it would add 28 packages, it reports its use by default, and the page would have to exist twice,
since gradio cannot write the view as one file that works alone.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mmengine.logging import print_log
from PIL import Image

from mmmaskclip.datasets.scenes.generator import draw_image, sample_scene
from mmmaskclip.demo.downloads import KINDS, make_download, make_page
from mmmaskclip.demo.folders import FolderSearch
from mmmaskclip.demo.photos import MOST_BYTES, Photo, PhotoStore, Refused, read_photo
from mmmaskclip.demo.pictures import data_url
from mmmaskclip.demo.seen_models import SeenModel
from mmmaskclip.demo.settings import MOST_WORDS, SIZES, Settings, check_words
from mmmaskclip.demo.views import view_patch, view_photo, view_words
from mmmaskclip.models.backbones.read_outs import READ_OUTS

LOCAL = ('127.0.0.1', 'localhost', '::1')
_MOST_JSON = 1_000_000
_THUMBNAIL = 192
# The browser itself refuses to load or send anything elsewhere.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; media-src 'self' blob:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)


class DemoServer(ThreadingHTTPServer):
    """Serves the page; every request has a thread, and state is kept by photo, not by browser.

    Args:
        models: One or two models.
        host: Address on which the server listens. Defaults to this machine alone.
        port: Port of the server; 0 takes a free one. Defaults to 7860.
        examples: Content of example photos. Default: four generated scenes.
        folders: Search of folders. Default: allowed where ``host`` is this machine alone.
    """

    daemon_threads = True

    def __init__(
        self,
        models: Sequence[SeenModel],
        host: str = '127.0.0.1',
        port: int = 7860,
        examples: Sequence[bytes] = (),
        folders: FolderSearch | None = None,
    ) -> None:
        super().__init__((host, port), _Handler)
        self.models, self.host = models, host
        self.photos = PhotoStore()
        self.folders = folders or FolderSearch(models, host in LOCAL)
        self.examples = [read_photo(data) for data in examples] or [_example(index) for index in range(4)]
        self.page = make_page().encode()

    @property
    def address(self) -> str:
        """The address to open in a browser."""
        return f'http://{self.host if self.host in LOCAL else "localhost"}:{self.server_address[1]}'


def _example(index: int) -> Photo:
    image = draw_image(sample_scene(f'example/{index}', (2, 3)), 320)
    return Photo(f'example-{index}', image)


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    protocol_version = 'HTTP/1.1'
    server_version, sys_version = 'mmmaskclip', ''
    # Seconds after which a silent connection loses its thread.
    timeout = 120

    def do_GET(self) -> None:
        """The page, and nothing else."""
        if self._is_foreign():
            return
        if self.path.partition('?')[0] == '/':
            self._send(self.server.page, 'text/html; charset=utf-8')
        else:
            self._say(HTTPStatus.NOT_FOUND, f'There is no page {self.path}.')

    def do_POST(self) -> None:
        """What the page asks for, as JSON; a photo comes as the content of its file."""
        # A page of another site cannot set this header without asking, and gets no permission.
        if self._is_foreign() or self.headers.get('X-Demo') != '1':
            return self._say(HTTPStatus.FORBIDDEN, 'Only the page of this server may ask.')
        answer = _ANSWERS.get(self.path)
        if answer is None:
            return self._say(HTTPStatus.NOT_FOUND, f'There is no answer to {self.path}.')
        try:
            content = self._content()
            result, kind = answer(self.server, content), 'application/json'
            if isinstance(result, tuple):
                result, kind = result
            self._send(result if isinstance(result, bytes) else json.dumps(result).encode(), kind)
        except Refused as refused:
            self._say(HTTPStatus.BAD_REQUEST, str(refused))
        except (BrokenPipeError, ConnectionResetError):  # the browser has closed the connection
            self.close_connection = True
        except Exception as error:  # a person at a page cannot read a trace; the terminal gets it
            print_log(traceback.format_exc(), logger='current', level=logging.ERROR)
            self._say(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                f'The server failed with {type(error).__name__}: {error}. Its terminal says where.',
            )

    def _is_foreign(self) -> bool:
        """Refuse a name that another site has pointed at this machine (DNS rebinding)."""
        name = (self.headers.get('Host') or '').rsplit(':', 1)[0].strip('[]')
        if self.server.host in LOCAL and name not in LOCAL:
            self._say(HTTPStatus.FORBIDDEN, f'This page is served at {self.server.address} only.')
            return True
        return False

    def _content(self) -> Any:
        length = int(self.headers.get('Content-Length') or 0)
        is_file = self.path == '/api/photo' and self.headers.get('Content-Type') != 'application/json'
        most = MOST_BYTES if is_file else _MOST_JSON
        if length > most:
            self.close_connection = True  # the unread rest would be taken for the next request
            raise Refused(f'The file has {length / 1e6:,.0f} MB: the most is {most / 1e6:.0f} MB.')
        data = self.rfile.read(length)
        if is_file:
            return data
        try:
            content = json.loads(data or b'{}')
        except ValueError as error:
            raise Refused(f'The request is no JSON: {error}.') from error
        if not isinstance(content, dict):
            raise Refused('The request is no JSON object.')
        return content

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(json.dumps(dict(message=text)).encode(), 'application/json', status)

    def _send(self, content: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {
            'Content-Type': kind,
            'Content-Length': str(len(content)),
            'Cache-Control': 'no-store',
            'Content-Security-Policy': _POLICY,
            'X-Content-Type-Options': 'nosniff',
            'Referrer-Policy': 'no-referrer',
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: requests are not worth a line of the terminal."""


def _state(server: DemoServer, _: dict) -> dict:
    shown = [dict(key=photo.key, url=_thumbnail(photo.image)) for photo in server.examples]
    models = [
        dict(name=model.name, size=min(model.inferencer.image_size), patch=model.inferencer.patch_size)
        for model in server.models
    ]
    return dict(
        models=models, read_outs=list(READ_OUTS), examples=shown, most_words=MOST_WORDS, sizes=SIZES,
        folders=server.folders.allowed,
    )  # fmt: skip


def _photo(server: DemoServer, content: Any) -> dict:
    """A file, ``{"example": KEY}``, or ``{"folder": ..., "model": ..., "place": ...}`` of a search."""
    if isinstance(content, bytes):
        photo = read_photo(content)
    elif 'folder' in content:
        path = server.folders.photo_path(content['folder'], content.get('model', 0), content.get('place'))
        photo = read_photo(path.read_bytes())
    else:
        examples = {photo.key: photo for photo in server.examples}
        if content.get('example') not in examples:
            raise Refused('There is no such example.')
        photo = examples[content['example']]
    return view_photo(server.photos.add(photo))


def _asked(server: DemoServer, content: dict) -> tuple[Photo, tuple[str, ...], Settings]:
    words, settings = check_words(content.get('words', [])), Settings.read(content.get('settings'))
    return server.photos.get(content.get('photo')), words, settings


def _view(server: DemoServer, content: dict) -> dict:
    photo, words, settings = _asked(server, content)
    return dict(words=words, models=view_words(photo, server.models, words, settings))


def _patch(server: DemoServer, content: dict) -> dict:
    photo, _, settings = _asked(server, content)
    place = content.get('x'), content.get('y')
    if not all(isinstance(part, (int, float)) for part in place):
        raise Refused('The click has no place: click on the photo.')
    return dict(models=view_patch(photo, server.models, settings, place))  # type: ignore[arg-type]


def _download(server: DemoServer, content: dict) -> tuple[bytes, str]:
    photo, words, settings = _asked(server, content)
    kind = str(content.get('kind'))
    return make_download(kind, photo, server.models, words, settings), KINDS[kind]


def _index(server: DemoServer, content: dict) -> dict:
    ask = server.folders.start if content.get('start') else server.folders.get
    return ask(content.get('folder'), content.get('model', 0)).state()


def _search(server: DemoServer, content: dict) -> dict:
    folder, model = content.get('folder'), content.get('model', 0)
    found = server.folders.search(folder, model, content.get('query'))
    for one in found:
        try:
            image = read_photo(server.folders.photo_path(folder, model, one['place']).read_bytes()).image
            one['url'] = _thumbnail(image)
        except (OSError, Refused) as error:
            one['problem'] = str(error)
    return dict(found=found)


def _thumbnail(image: Image.Image) -> str:
    small = image.copy()
    small.thumbnail((_THUMBNAIL, _THUMBNAIL))
    return data_url(small, 'JPEG')


_ANSWERS: dict[str, Callable[[DemoServer, Any], Any]] = {
    '/api/state': _state,
    '/api/photo': _photo,
    '/api/view': _view,
    '/api/patch': _patch,
    '/api/download': _download,
    '/api/index': _index,
    '/api/search': _search,
}
