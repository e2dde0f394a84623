"""Where published weights are: a file, a folder, an address, a repository of Hugging Face, a name of OpenCLIP."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmmaskclip.checkpoints.downloads import local_path
from mmmaskclip.checkpoints.files import sha256_of
from mmmaskclip.checkpoints.safe_load import read_json

# In the order in which they are taken: OpenCLIP's file and config say most about a model.
_WEIGHTS = (
    'open_clip_model.safetensors',
    'open_clip_pytorch_model.bin',
    'model.safetensors',
    'model.safetensors.index.json',
    'pytorch_model.bin',
    'pytorch_model.bin.index.json',
)
_CONFIGS = (
    'open_clip_config.json',
    'config.json',
    'preprocessor_config.json',
    'processor_config.json',
    'tokenizer.json',
    'tokenizer.model',
    'spiece.model',
    'tokenizer_config.json',
)


@dataclass(frozen=True)
class Source:
    """A file of weights on this machine.

    Attributes:
        path: The file; configs are looked for beside it.
        open_clip_config: What ``open_clip_config.json`` beside it would hold, where its place is known but not a file:
            of a name of OpenCLIP. Defaults to None.
        tokenizer: ``tokenizer.json``, where it does not lie beside the weights. Defaults to None.
    """

    path: str
    open_clip_config: dict[str, Any] | None = None
    tokenizer: str | None = None


def find_weights(source: str | os.PathLike) -> Source:
    """Find, and if need be download, the file of weights that ``source`` names.

    Args:
        source: Path of a file, or of a folder as :mod:`mmmaskclip.checkpoints.export` or Hugging Face writes it; an
            ``https://`` address; ``'hf://OWNER/REPOSITORY'``, with ``@REVISION`` if wanted, which needs the package
            huggingface_hub and without a network takes what is in its cache; ``'openclip:ARCHITECTURE/TAG'``, for
            example ``'openclip:ViT-B-32/laion2b_s34b_b79k'``, which needs open_clip_torch.

    Raises:
        FileNotFoundError: If there is no such file, folder or name, or no weights in it.
        ImportError: If the package that it needs is missing; the message has the command.
        ValueError: If a downloaded file is damaged.
    """
    text = os.fspath(source)
    if text.startswith('hf://'):
        return Source(_from_hugging_face(text.removeprefix('hf://')))
    if text.startswith('openclip:'):
        return _from_open_clip(text.removeprefix('openclip:'))
    path = local_path(text)
    if not os.path.isdir(path):
        return Source(path)
    for name in _WEIGHTS:
        if os.path.isfile(os.path.join(path, name)):
            return Source(os.path.join(path, name))
    raise FileNotFoundError(f'{path!r} is a folder without {" or ".join(_WEIGHTS)}: give the file in it.')


def _from_hugging_face(repository: str) -> str:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    except ImportError as error:
        raise ImportError(f'hf://{repository} needs a package: pip install huggingface_hub') from error
    repository, _, revision = repository.partition('@')
    names = _names_in(repository, revision)

    def fetch(name: str) -> str | None:
        if names is not None and name not in names:
            return None
        try:
            return hf_hub_download(repository, name, revision=revision or None, local_files_only=names is None)
        except (EntryNotFoundError, LocalEntryNotFoundError):
            return None

    for name in _CONFIGS:
        fetch(name)
    for name in _WEIGHTS:
        if path := fetch(name):
            if name.endswith('.index.json'):
                for part in sorted(set(read_json(Path(path)).get('weight_map', {}).values())):
                    _check_blob(fetch(part))
            _check_blob(path)
            return path
    where = 'the hub cannot be reached, and its cache on this machine' if names is None else f'hf://{repository}'
    raise FileNotFoundError(f'hf://{repository}: {where} has no {" or ".join(_WEIGHTS)}')


def _names_in(repository: str, revision: str) -> set[str] | None:
    """The files of a repository by one request; None where the hub cannot be reached.

    Asked for file by file, huggingface_hub would try each of them for half a minute without a network.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        info = HfApi().model_info(repository, revision=revision or None, timeout=10)
    except Exception as error:  # the errors of whichever client the version of huggingface_hub has
        if isinstance(error, HfHubHTTPError) and error.response is not None and error.response.status_code < 500:
            raise FileNotFoundError(f'hf://{repository} cannot be read: {error}') from error
        print_log(f'hf://{repository}: no connection ({error}); the cache on this machine is used.', 'current', 30)
        return None
    return {sibling.rfilename for sibling in info.siblings or ()}


def _check_blob(path: str | None) -> None:
    """Compare a file of Hugging Face's cache with its SHA-256, by which large files are named there."""
    name = os.path.basename(os.path.realpath(path)) if path else ''
    if path and re.fullmatch(r'[0-9a-f]{64}', name) and (digest := sha256_of(path)) != name:
        raise ValueError(f'{os.path.realpath(path)!r} is damaged: its SHA-256 is {digest}. Remove it and try again.')


def _from_open_clip(name: str) -> Source:
    try:
        import open_clip
        from open_clip.pretrained import download_pretrained, get_pretrained_cfg
    except ImportError as error:
        raise ImportError(
            f'openclip:{name} needs the list of OpenCLIP: pip install open_clip_torch, or give hf://OWNER/REPOSITORY'
        ) from error
    architecture, _, tag = name.partition('/')
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag.lower() not in (item.lower() for item in known):
        what = f'its tags are {", ".join(known)}' if known else f'OpenCLIP has no weights of {architecture!r}'
        raise FileNotFoundError(f'openclip:{name}: write openclip:ARCHITECTURE/TAG; {what}')
    published = get_pretrained_cfg(architecture, tag)
    model_cfg = dict(open_clip.get_model_config(architecture))
    if published.get('quick_gelu'):
        model_cfg['quick_gelu'] = True
    keys = ('mean', 'std', 'interpolation', 'resize_mode')
    preprocess = {key: published[key] for key in keys if published.get(key) is not None}
    tokenizer = (model_cfg.get('text_cfg') or {}).get('hf_tokenizer_name')
    return Source(
        download_pretrained(published),
        dict(model_cfg=model_cfg, preprocess_cfg=preprocess),
        tokenizer and _fetch_tokenizer(tokenizer),
    )


def _fetch_tokenizer(repository: str) -> str:
    from huggingface_hub import hf_hub_download

    hf_hub_download(repository, 'tokenizer_config.json')
    return hf_hub_download(repository, 'tokenizer.json')
