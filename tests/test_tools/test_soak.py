import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_short_run_is_flat(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tests/tiny'))
    spec = importlib.util.spec_from_file_location('soak', ROOT / 'tools/analysis_tools/soak.py')
    soak = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__('sys').modules, 'soak', soak)
    spec.loader.exec_module(soak)
    readings = soak.main(
        [str(ROOT / 'tests/tiny/tiny.py'), '--steps', '200', '--work-dir', str(tmp_path)]
        + [
            '--cfg-options',
            f'experiment_name={tmp_path.name}',
            'train_dataloader.dataset.size=200',
            'default_hooks.checkpoint.interval=100',
        ]
    )
    assert [reading.step for reading in readings] == list(range(20, 201, 20))
    # The first readings include what is allocated once.
    first, last = readings[4], readings[-1]
    assert last.files <= first.files
    assert last.threads <= first.threads
    assert last.memory - first.memory < 20
