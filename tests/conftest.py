"""What all tests share."""

from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from paths import DATA
from settled import keep_from_collector, remember_shipped_configs, settle

# Before any test module imports mmpretrain, which would leave mmdet without operators.
import mmmaskclip  # noqa: F401  # isort: skip
import tiny_models  # isort: skip

remember_shipped_configs()


def pytest_collection_finish() -> None:
    settle()


# One thread each: results do not depend on the machine, and tests do not fight over cores.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope='module')
def _left_by_other_files():
    """Forks of this process would otherwise visit, and so copy, all that the files before have left."""
    keep_from_collector()


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_scope():
    """A Runner makes its config's scope the default for the rest of the process, in the fixtures of a module too."""
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()


@pytest.fixture(scope='session')
def data_root() -> Path:
    """Folder with the real data sets; the test is skipped, with the reason, where there is none."""
    if not DATA.is_dir():
        pytest.skip(f'no real data: {DATA} does not exist (set MMMASKCLIP_DATA)')
    return DATA


@pytest.fixture(scope='session')
def tiny_model_cfg():
    """See :func:`tiny_models.model`."""
    return tiny_models.model


@pytest.fixture(scope='session')
def distillation_cfg():
    """See :func:`tiny_models.distillation`."""
    return tiny_models.distillation


@pytest.fixture(scope='session')
def random_batch():
    """See :func:`tiny_models.random_batch`."""
    return tiny_models.random_batch
