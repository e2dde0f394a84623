import subprocess
import sys

import pytest
from paths import ROOT

from mmmaskclip.startup import dependencies
from mmmaskclip.startup.dependencies import DETECTION, EXTRAS, REFERENCES, RUNTIME, check_dependencies

GOOD = {
    'torch': '2.11.0+cu130', 'torchvision': '0.26.0', 'onedl-mmengine': '0.10.12', 'onedl-mmcv': '2.3.6',
    'onedl-mmpretrain': '1.3.6', 'onedl-mmsegmentation': '1.4.2', 'numpy': '2.2.6', 'pillow': '11.0', 'ftfy': '6.3',
    'regex': '2024.5.15', 'webdataset': '1.0.2', 'braceexpand': '0.1.7', 'tensorboard': '2.20.0',
    'scipy': '1.15.3', 'matplotlib': '3.10.0', 'packaging': '25.0',
    'safetensors': '0.6.2', 'filelock': '3.20.0', 'rich': '14.2.0',
}  # fmt: skip


@pytest.fixture
def installed(monkeypatch):
    """Returns a function that makes the check see GOOD with changes; None takes a distribution away."""

    def pretend(**changes):
        versions = GOOD | {name.replace('_', '-'): version for name, version in changes.items()}
        monkeypatch.setattr(dependencies, '_installed', versions.get)

    return pretend


def test_this_environment_and_a_good_one_pass(installed):
    check_dependencies()
    installed()
    check_dependencies()


def test_what_is_missing_too_old_and_too_new_is_named_with_the_command(installed):
    installed(webdataset=None, torch='2.4.1', onedl_mmcv='3.0.0')
    with pytest.raises(ImportError) as error:
        check_dependencies()
    message = str(error.value)
    assert 'webdataset is missing; wanted: >=' in message
    assert 'torch 2.4.1 does not fit; wanted: >=2.6,<3 (get_total_norm' in message
    assert 'onedl-mmcv 3.0.0 does not fit; wanted: >=2.3.1,<3' in message
    # In a clone, held at the versions that are tested together.
    assert f'python -m pip install -c {ROOT}/requirements/constraints.txt ' in message
    assert "constraints.txt 'torch>=2.6,<3' 'onedl-mmcv>=2.3.1,<3' 'webdataset>=" in message


def test_an_original_stands_in_for_its_fork(installed):
    installed(onedl_mmsegmentation=None, mmsegmentation='1.2.2')
    check_dependencies()


@pytest.mark.parametrize(
    ('fork', 'original'), [('onedl-mmcv', 'mmcv'), ('onedl-mmcv', 'mmcv-lite'), ('onedl-mmdetection', 'mmdet')]
)
def test_a_fork_beside_its_original_is_refused_with_the_way_out(installed, fork, original):
    installed(**{'onedl_mmdetection': '3.5.1', original: '2.1.0'})
    version = {**GOOD, 'onedl-mmdetection': '3.5.1'}[fork]
    with pytest.raises(ImportError) as error:
        check_dependencies()
    assert f'{fork} {version} and {original} overwrite each other' in str(error.value)
    assert f'python -m pip uninstall -y {original} && ' in str(error.value)
    assert f'--force-reinstall --no-deps {fork}=={version}' in str(error.value)


def test_every_bound_has_a_reason_and_extras_include_detection():
    assert all(dependency.reason and dependency.versions for dependency in (*RUNTIME, *EXTRAS['tests'], *REFERENCES))
    assert set(DETECTION) <= set(EXTRAS['tests'])


def test_released_weights_are_read_without_an_extra():
    assert 'safetensors' in {dependency.name for dependency in RUNTIME}


def test_importing_the_package_checks_and_stays_light():
    code = (
        'import sys; from importlib import metadata; seen = []; version = metadata.version\n'
        'metadata.version = lambda name: seen.append(name) or version(name)\n'
        'import mmmaskclip\n'
        'assert "torch" in seen, seen; assert not {"torch", "mmengine", "numpy"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, timeout=60)
