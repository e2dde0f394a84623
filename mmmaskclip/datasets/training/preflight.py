"""Checks shards before training starts, because a loader without usable samples would only wait."""

import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import numpy as np
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import print_log

from mmmaskclip.datasets.sampling import BadSample, describe
from mmmaskclip.datasets.training import shard_reading
from mmmaskclip.datasets.training.captions import CaptionSource, listed
from mmmaskclip.datasets.training.shard_urls import is_indexable, is_local
from mmmaskclip.datasets.training.tar_files import Sample, read_span, walk_samples
from mmmaskclip.utils.progress import track
from mmmaskclip.utils.store import together

# Of more shards, so many are checked, spread over the list: a command costs about a second to start.
MOST_CHECKED = 2000
_THREADS = 16
_LISTED = 20
# A README or one odd sample at the beginning does not make a shard bad.
_TRIED_SAMPLES = 4
# If a sample lacks a file, so many following samples are searched for a file of the same name.
_SEARCHED_SAMPLES = 20_000
_PERCENT_ENCODED = re.compile('%[0-9A-Fa-f]{2}')


def check_shards(shards: Sequence[str], image_keys: Sequence[str], captions: CaptionSource) -> None:
    """Open the first samples of shards and checks that an image and a caption are where the config says.

    Collective: every rank checks its share. Remote shards are tried as often as in training. Of more than
    :data:`MOST_CHECKED` shards, so many are checked.

    Args:
        shards: Tar files, or anything that ``webdataset.gopen`` opens.
        image_keys: Extensions of the image.
        captions: Finds the captions of a sample.

    Raises:
        ValueError: On every rank. The message names every shard that cannot be read, is empty or has unexpected keys,
            the keys it has, and the remedy.
    """
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(len(shards), MOST_CHECKED)).astype(int)).tolist()
    if len(chosen) < len(shards):
        print_log(f'Checking {len(chosen)} of {len(shards)} shards before the first step.', logger='current')
    mine = [shards[i] for i in chosen[get_rank() :: get_world_size()]]
    with together('checking shards'), ThreadPoolExecutor(_THREADS) as threads:
        results = threads.map(lambda url: _check(url, image_keys, captions), mine)
        checks = list(track(results, 'Checking shards', len(mine)))
    gathered = all_gather_object([(url, check) for url, check in zip(mine, checks, strict=True) if check])
    found = [(url, check) for part in gathered for url, check in part]
    problems = [(url, check) for url, check in found if isinstance(check, str)]
    if not problems:
        _warn_about_texts([text for _, texts in found for text in texts])
        return
    lines = [f'  {url}: {problem}' for url, problem in sorted(problems)[:_LISTED]]
    if len(problems) > _LISTED:
        lines.append(f'  ... and {len(problems) - _LISTED} more')
    raise ValueError(
        f'{len(problems)} of {len(chosen)} shards cannot be used:\n' + '\n'.join(lines) + '\n'
        'Leave unreadable and empty shards out of urls (or download them again); where keys are wrong, set image_keys '
        'and caption_key to what the shards have.'
    )


def _check(url: str, image_keys: Sequence[str], captions: CaptionSource) -> list[str] | str:
    """Return the captions of the first complete sample, or the fault of the shard."""
    for attempt in range(1 if is_local(url) else shard_reading.RETRIES + 1):
        if attempt:
            time.sleep(shard_reading.FIRST_WAIT * 2 ** (attempt - 1))
        try:
            return _look(url, image_keys, captions)
        except BadSample as bad:
            problem = f'unreadable: {bad.detail}'
        except MemoryError:
            raise
        except Exception as error:  # whatever a pipe, curl, tarfile or a decompressor may raise
            problem = f'unreadable: {describe(error)}'
    return problem


def _look(url: str, image_keys: Sequence[str], captions: CaptionSource) -> list[str] | str:
    first: tuple[str, str] | None = None
    for sample in islice(_samples(url), _TRIED_SAMPLES):
        problem = _problem(sample.files, image_keys, captions)
        if problem is None:
            return _texts(sample.files, captions)
        first = first or (sample.key, problem)
    if first is None:
        return 'empty: no sample in it'
    key, problem = first
    return problem + _elsewhere(key, islice(_samples(url), _SEARCHED_SAMPLES))


def _problem(files: Mapping[str, bytes], image_keys: Sequence[str], captions: CaptionSource) -> str | None:
    if not any(key in files for key in image_keys):
        return f'no image: expected one of {list(image_keys)}, found {listed(files)}'
    missing = captions.missing(files)
    return f'no caption: expected {" or ".join(captions.keys)}, {missing}' if missing else None


def _elsewhere(key: str, samples: Iterable[Sample]) -> str:
    """Say where the missing files of a sample are: files of a sample must follow each other, in one folder."""
    name = key.rpartition('/')[2]
    for number, sample in enumerate(samples):
        if number and sample.key.rpartition('/')[2] == name:
            return (
                f'. The files of {name!r} are not side by side: {", ".join(sorted(sample.files))} come later'
                f'{"" if sample.key == key else f" ({sample.key})"}. Write the files of a sample one after the other, '
                'in one folder: tar --sort=name -cf SHARD.tar FOLDER'
            )
    return ''


def _texts(files: Mapping[str, bytes], captions: CaptionSource) -> list[str]:
    try:
        return captions(files)
    except BadSample:
        return []


def _warn_about_texts(texts: Sequence[str]) -> None:
    encoded = [text for text in texts if _PERCENT_ENCODED.search(text)]
    if 2 * len(encoded) > len(texts):
        print_log(
            f'{len(encoded)} of {len(texts)} first captions look percent-encoded, e.g. {encoded[0][:80]!r}. Training '
            "would use them as they are. Decode them when the shards are made (YFCC's titles: unquote_plus of urllib).",
            logger='current',
            level=logging.WARNING,
        )


def _samples(url: str) -> Iterator[Sample[bytes]]:
    if not is_indexable(url):
        yield from shard_reading.stream_samples(url)
        return
    with open(url, 'rb', buffering=0) as file:
        for number, sample in enumerate(walk_samples(file)):
            # Only the names of later samples matter.
            read = number < _TRIED_SAMPLES
            files = {name: read_span(file, span) if read else b'' for name, span in sample.files.items()}
            yield Sample(sample.key, files, sample.problem)
