import subprocess
import sys

NOISY = """
import mmmaskclip
import mmpretrain.datasets, mmpretrain.models, mmseg.datasets
import logging, warnings
from mmengine.logging import MMLogger, print_log
warnings.warn('a warning of somebody else')
MMLogger.get_current_instance().warning('a log line of somebody else')
print_log('a print of somebody else', level=logging.DEBUG)
"""


def test_only_the_misleading_messages_are_dropped():
    done = subprocess.run([sys.executable, '-c', NOISY], capture_output=True, text=True, check=True, timeout=300)
    output = done.stdout + done.stderr
    for kept in ('a warning of', 'a log line of', 'a print of'):
        assert f'{kept} somebody else' in output
    for noise in ('MultiScaleDeformableAttention', 'Line NMS', 'OneDL'):
        assert noise not in output
