import subprocess
import sys

import pytest

NOISY = """
import mmmaskclip
import mmpretrain.datasets, mmpretrain.models, mmseg.datasets
import pycocotools, transformers
assert [name for name in vars(transformers) if not name.startswith('__')] == []
assert mmpretrain.models.multimodal.WITH_MULTIMODAL is False
import logging, warnings
from mmengine.logging import MMLogger, print_log
warnings.warn('a warning of somebody else')
MMLogger.get_current_instance().warning('a log line of somebody else')
print_log('a print of somebody else', level=logging.DEBUG)
"""


@pytest.fixture
def transformers5(tmp_path, monkeypatch):
    """A stand-in for transformers 5, which lacks the classes that mmpretrain's multimodal models subclass."""
    (tmp_path / 'transformers').mkdir()
    (tmp_path / 'transformers/__init__.py').write_text("__version__ = '5.24.0'\n")
    (tmp_path / 'transformers-5.24.0.dist-info').mkdir()
    metadata = 'Metadata-Version: 2.1\nName: transformers\nVersion: 5.24.0\n'
    (tmp_path / 'transformers-5.24.0.dist-info/METADATA').write_text(metadata)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))


# One process for both: it imports every toolbox, which takes seconds.
@pytest.mark.usefixtures('transformers5')
def test_only_the_misleading_messages_are_dropped_also_beside_transformers_5():
    done = subprocess.run([sys.executable, '-c', NOISY], capture_output=True, text=True, check=True, timeout=300)
    output = done.stdout + done.stderr
    for kept in ('a warning of', 'a log line of', 'a print of'):
        assert f'{kept} somebody else' in output
    for noise in ('MultiScaleDeformableAttention', 'Line NMS', 'OneDL'):
        assert noise not in output
