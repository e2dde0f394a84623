"""Looks at every shard before training starts, because a loader that finds nothing to load would only wait."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from mmmaskclip.datasets.sampling import BadSample, describe
from mmmaskclip.datasets.training.captions import CaptionSource
from mmmaskclip.datasets.training.shard_counts import is_indexable
from mmmaskclip.datasets.training.shard_streams import stream_samples
from mmmaskclip.datasets.training.tar_files import read_span, walk_samples

_THREADS = 16
_LISTED = 20


def check_shards(shards: Sequence[str], image_keys: Sequence[str], captions: CaptionSource) -> None:
    """Open the first sample of every shard and check that an image and a caption are where the config says.

    Args:
        shards: Tar files, or anything that ``webdataset.gopen`` opens.
        image_keys: Extensions of the image.
        captions: Finds the captions of a sample.

    Raises:
        ValueError: Names every shard that cannot be read, is empty, or has other keys than expected (with those that
            were found), and the remedy.
    """
    with ThreadPoolExecutor(_THREADS) as threads:
        problems = list(threads.map(lambda url: _problem(url, image_keys, captions), shards))
    found = [(url, problem) for url, problem in zip(shards, problems, strict=True) if problem]
    if not found:
        return
    lines = [f'  {url}: {problem}' for url, problem in found[:_LISTED]]
    if len(found) > _LISTED:
        lines.append(f'  ... and {len(found) - _LISTED} more')
    raise ValueError(
        f'{len(found)} of {len(shards)} shards cannot be used:\n' + '\n'.join(lines) + '\n'
        'Leave unreadable and empty shards out of urls (or download them again); where keys are wrong, set image_keys '
        'and caption_key to what the shards have.'
    )


def _problem(url: str, image_keys: Sequence[str], captions: CaptionSource) -> str | None:
    try:
        files = _first_sample(url)
    except BadSample as bad:
        return f'unreadable: {bad.detail}'
    except MemoryError:
        raise
    except Exception as error:  # whatever a pipe, curl, tarfile or a decompressor may raise
        return f'unreadable: {describe(error)}'
    if files is None:
        return 'empty: no sample in it'
    if not any(key in files for key in image_keys):
        return f'no image: expected one of {list(image_keys)}, found {sorted(files)}'
    missing = captions.missing(files)
    return f'no caption: expected {" or ".join(captions.keys)}, {missing}' if missing else None


def _first_sample(url: str) -> Mapping[str, bytes] | None:
    if is_indexable(url):
        with open(url, 'rb', buffering=0) as file:
            sample = next(walk_samples(file), None)
            return None if sample is None else {name: read_span(file, span) for name, span in sample.spans.items()}
    _, files = next(stream_samples(url), (None, None))
    return files
