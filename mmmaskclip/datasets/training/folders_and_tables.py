"""Reads pairs without a list: folders of images with texts, parquet, Hugging Face data sets on disk."""

import os
from collections.abc import Iterator, Sequence
from glob import escape, glob
from pathlib import Path
from typing import Any

from mmmaskclip.datasets.sampling import BadSample
from mmmaskclip.datasets.training.captions import CaptionReader

# A row: its place, for errors; the image's name; the raw captions.
Row = tuple[str, Any, list[Any]]
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png', '.webp', '.gif', '.bmp')
REMOTE = 'hf://'
_TEXT_KEYS = ('json:captions', 'json:caption', 'json:text', 'txt')


def image_files(path: str) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield a folder and all folders below, each with the sorted names of its images and the names of all its files."""
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith('.') and name != '__MACOSX')
        # macOS adds a hidden file to each image.
        images = sorted(name for name in names if name.lower().endswith(IMAGE_ENDINGS) and name[0] != '.')
        yield folder, images, names


def folder_rows(path: str, bad: list[BadSample]) -> Iterator[Row]:
    """Yield the images in and below a folder, with the captions of the ``.txt`` or ``.json`` of the same name."""
    reader = CaptionReader(_TEXT_KEYS)
    for folder, images, names in image_files(path):
        texts = {name.lower(): name for name in names if name.lower().endswith(('.txt', '.json'))}
        for name in images:
            stem = os.path.splitext(name)[0].lower()
            found = {kind: texts[f'{stem}.{kind}'] for kind in ('txt', 'json') if f'{stem}.{kind}' in texts}
            where = os.path.relpath(os.path.join(folder, name), path)
            try:
                files = {kind: Path(folder, text).read_bytes() for kind, text in found.items()}
                captions: list[Any] = reader(files) if files else []
            except BadSample as problem:
                bad.append(BadSample(problem.cause, f'{where}: {problem.detail}'))
                continue
            yield where, where, captions


def arrow() -> Any:
    """Import pyarrow, an optional dependency.

    Raises:
        ImportError: If it is not installed; the message says how to get it.
    """
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError(
            f'parquet and Hugging Face data sets need pyarrow: pip install pyarrow, or the extra [data] ({error})'
        ) from error
    return pyarrow


def hugging_face() -> Any:
    """Return the file system of Hugging Face's repositories, which downloads only the parts of a file that are read.

    Raises:
        ImportError: If huggingface_hub is not installed; the message says how to get it.
    """
    try:
        from huggingface_hub import HfFileSystem
    except ImportError as error:
        raise ImportError(f'hf:// needs a package: pip install huggingface_hub ({error})') from error
    return HfFileSystem()


def open_parquet(file: str) -> Any:
    """Open a parquet file, local or of Hugging Face (``hf://datasets/OWNER/NAME/FILE``)."""
    source = hugging_face().open(file.removeprefix(REMOTE), 'rb') if file.startswith(REMOTE) else file
    return arrow().parquet.ParquetFile(source)


def parquet_files(path: str) -> list[str]:
    """List the parquet files in and below a folder or repository, those of a pattern, or the one file."""
    if path.startswith(REMOTE):
        inside = path.removeprefix(REMOTE)
        pattern = inside if inside.endswith('.parquet') else f'{inside.rstrip("/")}/**/*.parquet'
        return [REMOTE + file for file in sorted(hugging_face().glob(pattern))]
    if os.path.isfile(path):
        return [path]
    is_pattern = path.endswith('.parquet') and not os.path.isdir(path)
    # escape: the name of a folder may contain brackets.
    pattern = path if is_pattern else os.path.join(escape(path), '**', '*.parquet')
    return sorted(glob(pattern, recursive=True))


def parquet_rows(path: str, image_key: str, keys: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of parquet files whose image column holds paths."""
    for file in parquet_files(path):
        table = open_parquet(file)
        check_columns(file, table.schema_arrow.names, image_key, keys)
        if not _is_text(table.schema_arrow.field(image_key).type):
            raise ValueError(
                f'{file} contains the images, which parquet cannot deliver one by one at the speed of training. '
                f'Convert it to shards: python tools/dataset_converters/make_shards.py {path} OUT'
            )
        number = 0
        for batch in table.iter_batches(columns=[image_key, *keys]):
            for row in batch.to_pylist():
                yield f'{os.path.basename(file)} row {number}', row[image_key], row_captions(row, keys)
                number += 1


class ArrowFolder:
    """A data set as ``datasets`` saves it on disk (``save_to_disk``): Arrow files, whose rows are read in any order.

    Args:
        path: Folder with ``*.arrow`` files.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = sorted(file.name for file in Path(path).glob('*.arrow'))
        if not self.files:
            raise ValueError(f'{path} has no .arrow file')
        self._tables: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # A spawned process opens the memory maps again.
        return {**self.__dict__, '_tables': {}}

    def table(self, file: str) -> Any:
        """One file, mapped into memory."""
        if file not in self._tables:
            source = arrow().memory_map(os.path.join(self.path, file))
            try:
                self._tables[file] = arrow().ipc.open_stream(source).read_all()
            except arrow().lib.ArrowInvalid:
                self._tables[file] = arrow().ipc.open_file(source).read_all()
        return self._tables[file]

    def rows(self, image_key: str, keys: Sequence[str]) -> Iterator[Row]:
        """Yield all rows; the image's name is FILE/ROW."""
        for file in self.files:
            table = self.table(file)
            check_columns(os.path.join(self.path, file), table.column_names, image_key, keys)
            for number, row in enumerate(table.select(list(keys)).to_pylist()):
                yield f'{file} row {number}', f'{file}/{number}', row_captions(row, keys)

    def image(self, name: str, image_key: str) -> bytes:
        """Read the image of a row.

        Raises:
            BadSample: ``missing_image``.
        """
        file, _, number = name.rpartition('/')
        return image_bytes(self.table(file)[image_key][int(number)].as_py(), self.path)


def image_bytes(value: Any, root: str) -> bytes:
    """Return the bytes of an image from a table's value: bytes, a path, or ``{'bytes': ..., 'path': ...}``.

    Raises:
        BadSample: ``missing_image``.
    """
    if isinstance(value, dict):
        value = value.get('bytes') or value.get('path')
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str) or not value:
        raise BadSample('missing_image', f'{value!r} is no image')
    path = os.path.join(root, value)
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSample('missing_image', f'{path}: {reason}') from error


def check_columns(where: str, columns: Sequence[str], image_key: str, keys: Sequence[str]) -> None:
    """Check that the table has the columns.

    Raises:
        ValueError: If one is missing; the message names those that exist.
    """
    missing = [key for key in (image_key, *keys) if key not in columns]
    if missing:
        raise ValueError(f'{where} has no column {missing}, but {list(columns)}; set image_key and caption_key')


def row_captions(row: dict[str, Any], keys: Sequence[str]) -> list[Any]:
    """Return the captions of a row; a column may hold one caption or a list."""
    return [item for key in keys for item in (row[key] if isinstance(row[key], list) else [row[key]])]


def _is_text(kind: Any) -> bool:
    return arrow().types.is_string(kind) or arrow().types.is_large_string(kind)
