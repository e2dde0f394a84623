"""The packages that mmmaskclip needs, and their check at ``import mmmaskclip``.

This is the only list of version bounds. ``setup.py`` reads it from this file, so that installation and check cannot
disagree. The file imports only the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Dependency(NamedTuple):
    """A distribution, the versions that work, and why not older (or newer) ones.

    Attributes:
        name: Name of the distribution.
        versions: Version range.
        reason: Why this range.
        originals: Original distributions with the same import name. They may replace this one, but not stand beside it,
            because both own the same files.
    """

    name: str
    versions: str
    reason: str
    originals: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f'{self.name}{self.versions}'


RUNTIME = (
    Dependency('torch', '>=2.6,<3', 'get_total_norm and checkpoint loading with stand-ins for classes came with 2.6'),
    Dependency('torchvision', '>=0.21', 'the release for torch 2.6'),
    Dependency(
        'onedl-mmengine', '>=0.10.8,<1', 'the first release of the maintained fork', ('mmengine', 'mmengine-lite')
    ),
    Dependency('onedl-mmcv', '>=2.3.1,<3', '2.3.0 refuses NumPy 2', ('mmcv', 'mmcv-lite', 'mmcv-full')),
    Dependency('onedl-mmpretrain', '>=1.3,<2', 'the first release of the maintained fork', ('mmpretrain',)),
    Dependency(
        'onedl-mmsegmentation', '>=1.4,<2', 'mmseg.utils imports without compiled operators', ('mmsegmentation',)
    ),
    Dependency('numpy', '>=2', 'onedl-mmsegmentation needs it'),
    Dependency('pillow', '>=9.1', 'older ones have not been tried'),
    Dependency('ftfy', '>=6', 'mmsegmentation imports it for its tokenizer'),
    Dependency('regex', '>=2022.1.18', 'mmsegmentation imports it for its tokenizer; wheels for Python 3.10'),
    Dependency('webdataset', '>=0.2.100', 'older ones have not been tried'),
    Dependency('braceexpand', '>=0.1.7', 'older ones have not been tried; webdataset needs it too'),
    Dependency('tensorboard', '>=2.18', 'the first that works with NumPy 2'),
    Dependency('scipy', '>=1.13', 'the first that works with NumPy 2'),
    Dependency('matplotlib', '>=3.9', 'the first that is built for NumPy 2'),
    Dependency('safetensors', '>=0.4', 'most published weights have this format; older ones have not been tried'),
    Dependency('filelock', '>=3', 'one download for all processes of a node; torch needs it too'),
    Dependency('rich', '>=14.1', 'bars within bars; mmengine needs it too'),
    Dependency('packaging', '>=21', 'this check'),
)

DETECTION = (Dependency('onedl-mmdetection', '>=3.5,<4', '3.4 imports imgaug, which NumPy 2 does not run', ('mmdet',)),)

EXPORT = (
    Dependency('onnx', '>=1.17', 'onnxscript writes by it; older ones have not been tried'),
    Dependency('onnxscript', '>=0.7.2', "torch's exporter; 0.2 and 0.5 fail, those between have not been tried"),
)

TOWERS = (
    Dependency('timm', '>=1.0.19', 'the first with the Perception Encoder and rotary positions of any grid'),
    Dependency('tokenizers', '>=0.19', 'reads the tokenizer.json of SigLIP; older ones have not been tried'),
    Dependency('sentencepiece', '>=0.2', 'reads a bare tokenizer.model; older ones have not been tried'),
)

TABLES = (
    Dependency('pyarrow', '>=14', 'parquet and Hugging Face data sets; older ones have not been tried'),
    Dependency('datasets', '>=3.1', 'streams know the number of their files since; older ones have not been tried'),
)

JPEG = (Dependency('simplejpeg', '>=1.9', 'its pixels equal those of Pillow 13; older ones have not been tried'),)

TESTS = (
    *DETECTION,
    *EXPORT,
    *JPEG,
    *TABLES,
    *TOWERS,
    Dependency('onnxruntime', '>=1.20', 'runs the exported graphs; older ones have not been tried'),
    Dependency('pytest', '>=8', 'older ones have not been tried'),
    Dependency('pytest-timeout', '>=2.3', 'older ones have not been tried'),
    Dependency('pytest-xdist', '>=3.6', 'older ones have not been tried'),
    Dependency('scikit-learn', '>=1.4.2', 'the reference for metrics and logistic regression'),
    Dependency('open_clip_torch', '>=3.0', "the reference for parity; 2.32 has no 'local-dir:'"),
    Dependency('ruff', '>=0.6', 'the lint rules in pyproject.toml'),
    Dependency('mypy', '>=1.8', 'type checks'),
    Dependency('import-linter', '>=2.7', 'acyclic_siblings, the contract against circles'),
    Dependency('pre-commit', '>=3', 'hooks'),
)

# Installed into the test environment without its own dependencies: transformers, which nothing here needs, would change
# what mmpretrain registers.
REFERENCES = (Dependency('clip-benchmark', '==1.6.2', 'the reference for metrics, in the version that was compared'),)

DOCS = (
    Dependency('mkdocs-material', '>=9.5', 'older ones have not been tried'),
    Dependency('mkdocstrings[python]', '>=0.26', 'older ones have not been tried'),
)

EXTRAS = {
    'det': DETECTION,
    'data': TABLES,
    'docs': DOCS,
    'export': EXPORT,
    'jpeg': JPEG,
    'tests': TESTS,
    'towers': TOWERS,
}


def check_dependencies() -> None:
    """Check what is installed against :data:`RUNTIME`, in a few milliseconds: metadata is read, nothing is imported.

    An original OpenMMLab package in place of its onedl fork is accepted as it is. Both together are not: they own the
    same files.

    Raises:
        ImportError: If something is missing, too old, too new or installed twice; names each, the version found, the
            range wanted and the command that mends it.
    """
    names = {name for dependency in (*RUNTIME, *DETECTION) for name in (dependency.name, *dependency.originals)}
    installed = {name: _installed(name) for name in names}
    problems, to_install = [], []
    for dependency in RUNTIME:
        found = installed[dependency.name]
        if found is None and not any(installed[name] for name in dependency.originals):
            problems.append(f'{dependency.name} is missing; wanted: {dependency.versions}')
            to_install.append(dependency)
        elif found is not None and not _fits(found, dependency.versions):
            problems.append(
                f'{dependency.name} {found} does not fit; wanted: {dependency.versions} ({dependency.reason})'
            )
            to_install.append(dependency)
    fixes = [pip_install(*to_install)] if to_install else []
    for dependency in (*RUNTIME, *DETECTION):
        found = installed[dependency.name]
        doubles = [name for name in dependency.originals if found and installed[name]]
        if doubles:
            problems.append(f'{dependency.name} {found} and {", ".join(doubles)} overwrite each other')
            fixes.append(
                f'python -m pip uninstall -y {" ".join(doubles)} && '
                f'python -m pip install --force-reinstall --no-deps {dependency.name}=={found}'
            )
    if problems:
        listed = '\n'.join(f'  - {problem}' for problem in problems)
        commands = '\n'.join(f'  {fix}' for fix in fixes)
        raise ImportError(f'mmmaskclip cannot run with what is installed:\n{listed}\nTo mend it:\n{commands}')


def missing_toolbox(imports: Iterable[str]) -> str | None:
    """Say which of OpenMMLab's toolboxes is not installed, and the command that installs it.

    Args:
        imports: Names that are about to be imported. Only mmdet, mmpretrain and mmseg are checked.

    Returns:
        The sentence, or None if nothing is missing.
    """
    packages = {'mmdet': DETECTION[0], **{d.originals[0]: d for d in RUNTIME if d.originals}}
    packages |= {'mmseg': packages.pop('mmsegmentation')}
    for name in sorted({*imports} & {*packages}):
        if find_spec(name) is None:
            return f'{packages[name].name} is not installed, and this needs it: {pip_install(packages[name])}'
    return None


def pip_install(*dependencies: Dependency) -> str:
    """The command that installs dependencies; in a clone, at the versions that were tested together."""
    constraints = Path(__file__).parents[2] / 'requirements/constraints.txt'
    held = f'-c {constraints} ' if constraints.is_file() else ''
    return f'python -m pip install {held}{" ".join(repr(str(dependency)) for dependency in dependencies)}'


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _fits(version: str, versions: str) -> bool:
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # reported as missing itself
        return True
    return SpecifierSet(versions).contains(version, prereleases=True)
