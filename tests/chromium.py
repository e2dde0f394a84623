"""A real browser without a screen, driven by the DevTools protocol over two pipes: no driver, no package, no port."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

PATH = next((path for name in ('chromium', 'chromium-browser', 'google-chrome') if (path := shutil.which(name))), None)
needs_chromium = pytest.mark.skipif(PATH is None, reason='no Chromium on this machine: apt-get install chromium')
_FLAGS = (
    *('--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--remote-debugging-pipe'),
    *('--disable-background-networking', '--disable-component-update', '--disable-sync', '--window-size=1280,1000'),
    *('--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream', '--disable-dev-shm-usage'),
)
_PATIENCE = 60


class Chromium:
    """The browser; ends with the ``with`` block.

    Args:
        profile: An empty folder for what it writes.
    """

    def __init__(self, profile: Path) -> None:
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*os.pipe(), *os.pipe())]
        child_in, self._out, self._in, child_out = ends

        def connect():
            os.dup2(child_in, 3)
            os.dup2(child_out, 4)

        assert PATH is not None
        env = {**os.environ, 'HOME': str(profile), 'XDG_CONFIG_HOME': str(profile), 'XDG_CACHE_HOME': str(profile)}
        self._process = subprocess.Popen(
            [PATH, *_FLAGS, f'--user-data-dir={profile}'],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env, preexec_fn=connect, pass_fds=(3, 4),
        )  # fmt: skip
        os.close(child_in)
        os.close(child_out)
        self._buffer, self._number = b'', 0
        self.events: list[dict] = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, session: str | None = None, **params):
        """Call a method of the protocol; returns its result."""
        self._number += 1
        message = dict(id=self._number, method=method, params=params, **({'sessionId': session} if session else {}))
        os.write(self._out, json.dumps(message).encode() + b'\0')
        while True:
            answer = self._read()
            if answer.get('id') == self._number:
                assert 'error' not in answer, (method, answer['error'])
                return answer['result']
            self.events.append(answer)

    def _read(self) -> dict:
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], _PATIENCE)
            assert ready, 'the browser does not answer'
            part = os.read(self._in, 1 << 20)
            assert part, 'the browser has ended'
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(line)

    def open(self, address: str, downloads: Path) -> 'Page':
        """Open a page as a person of its own: no cookies or storage are shared with others."""
        context = self.call('Target.createBrowserContext')['browserContextId']
        self.call(
            'Browser.setDownloadBehavior', behavior='allow', downloadPath=str(downloads), browserContextId=context
        )
        target = self.call('Target.createTarget', url='about:blank', browserContextId=context)['targetId']
        session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network', 'DOM'):
            self.call(f'{domain}.enable', session)
        page = Page(self, session)
        page.call('Page.navigate', url=address)
        page.wait('document.readyState === "complete"')
        return page


class Page:
    """One page in the browser."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self.browser, self.session = browser, session

    def call(self, method: str, **params):
        """Call a method of the protocol for this page."""
        return self.browser.call(method, self.session, **params)

    def evaluate(self, script: str):
        """The value of an expression of JavaScript."""
        answer = self.call('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
        assert 'exceptionDetails' not in answer, (script, answer['exceptionDetails'])
        return answer['result'].get('value')

    def wait(self, script: str):
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + _PATIENCE
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f'never true: {script}; {self.evaluate("document.body.innerText")}'
            time.sleep(0.05)
        return value

    def click(self, selector: str, across: float = 0.5, down: float = 0.5):
        """Click on an element, at a place from 0 to 1."""
        find = f'document.querySelector({json.dumps(selector)})'
        self.evaluate(f'{find}.scrollIntoView({{block: "center"}})')
        box = self.evaluate(f'(({{x, y, width, height}}) => [x, y, width, height])({find}.getBoundingClientRect())')
        place = dict(x=box[0] + across * box[2], y=box[1] + down * box[3], button='left', clickCount=1)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, **place)

    def type(self, selector: str, text: str, enter: bool = True):
        """Type into a field."""
        self.evaluate(f'document.querySelector({json.dumps(selector)}).focus()')
        if text:
            self.call('Input.insertText', text=text)
        if enter:
            for kind in ('keyDown', 'keyUp'):
                self.call('Input.dispatchKeyEvent', type=kind, key='Enter', code='Enter', windowsVirtualKeyCode=13)

    def choose_files(self, selector: str, *paths: Path):
        """Choose files in an input."""
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=selector)['nodeId']
        self.call('DOM.setFileInputFiles', nodeId=node, files=[str(path) for path in paths])

    def screenshot(self, path: Path):
        """Write the whole page as a PNG."""
        data = self.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
        path.write_bytes(base64.b64decode(data))

    def faults(self) -> list:
        """What the page complained about: exceptions, and errors in its console."""
        names = ('Runtime.exceptionThrown', 'Log.entryAdded')
        found = [event['params'] for event in self.browser.events if event.get('method') in names]
        # A refused request is an answer, which the page shows as a sentence.
        return [fault for fault in found if 'status of 400' not in json.dumps(fault)]

    def addresses(self) -> set[str]:
        """What the page has asked for, without what it holds inside."""
        sent = [event['params'] for event in self.browser.events if event.get('method') == 'Network.requestWillBeSent']
        asked = {one['request']['url'] for one in sent}
        return {address for address in asked if not address.startswith(('data:', 'blob:'))}
