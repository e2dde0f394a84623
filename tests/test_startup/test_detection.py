import importlib.util
import subprocess
import sys

from mmmaskclip.startup.detection import _MODULE, _Finder

CODE = "import sys, mmmaskclip.models; print('mmdet' in sys.modules, mmmaskclip.models.__name__)"


def test_the_parts_of_a_pretraining_do_not_import_mmdet():
    command = [sys.executable, '-W', 'ignore', '-c', CODE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0] == 'False'


def test_whoever_has_imported_mmdet_gets_mmpretrains_part_of_it(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmdet', raising=False)
    spec = _Finder().find_spec(_MODULE, None)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.ResLayerExtraNorm is None
    monkeypatch.setitem(sys.modules, 'mmdet', sys)
    assert _Finder().find_spec(_MODULE, None) is None
    assert _Finder().find_spec('mmpretrain.models', None) is None
