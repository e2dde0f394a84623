import re
from pathlib import Path

import pytest
import torch

from mmmaskclip.checkpoints import downloads
from mmmaskclip.checkpoints.downloads import download, local_path


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """The addresses that were downloaded, each into a file that holds its address."""
    addresses = []

    def fetch(address, path, checksum, progress):
        addresses.append((address, checksum))
        Path(path).write_text(address)

    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, 'download_url_to_file', fetch)
    return addresses


def test_files_are_kept_by_their_whole_address(fetched):
    one, other = (f'https://host/{run}/epoch_25.pth' for run in 'ab')
    paths = [download(address) for address in (one, other, one)]
    assert [Path(path).read_text() for path in paths] == [one, other, one]
    assert {Path(path).name for path in paths} == {'epoch_25.pth'}
    assert fetched == [(one, None), (other, None)]


def test_the_processes_of_a_node_download_once(fetched, monkeypatch):
    """The file appears while a process waits for the lock: it does not download again."""

    class Lock:
        def __init__(self, path):
            self.file = Path(path).with_name('a.pth')

        def __enter__(self):
            self.file.write_text('from another process')

        def __exit__(self, *_): ...

    monkeypatch.setattr(downloads, 'FileLock', Lock)
    assert Path(download('https://host/a.pth')).read_text() == 'from another process'
    assert not fetched


def test_http_needs_a_checksum(fetched):
    with pytest.raises(ValueError, match=r'http://host/a\.pth: http:// does not protect .* https://'):
        download('http://host/a.pth')
    download('http://host/a-89abcdef.pth')
    assert fetched == [('http://host/a-89abcdef.pth', '89abcdef')]


def test_names_of_torchvision_are_addresses(fetched):
    assert re.fullmatch(r'resnet50-[0-9a-f]{8}\.pth', Path(local_path('torchvision://resnet50')).name)
    with pytest.raises(ValueError, match='torchvision://resnet5: there is no model of this name'):
        local_path('torchvision://resnet5')
    assert local_path('a.pth') == 'a.pth'
