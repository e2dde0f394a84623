import json

import pytest
import torch
from paths import load_module

from mmmaskclip.analysis import exactness
from mmmaskclip.analysis.exactness import Check
from mmmaskclip.analysis.step_parts import kind_of_kernel
from mmmaskclip.engine.registration import register_all_modules


@pytest.fixture
def tool():
    register_all_modules()
    return load_module('tools/analysis_tools/gpu_report.py')


def test_checks_pass_here_and_one_that_fails_is_seen(tool, tmp_path, monkeypatch):
    report = tool.Report(tmp_path)
    tool.checks(report, 'cpu', small=True)
    torch._dynamo.reset()
    results = json.loads((tmp_path / 'checks.json').read_text())
    assert len(results) >= 6
    assert all(result['passed'] for result in results), results
    assert not Check('nan', float('nan'), 1.0).passed
    monkeypatch.setattr(exactness, 'move', lambda copies, sources, share: None)
    assert exactness._teacher('cpu')[0] > 0.1


def test_steps_of_tiny_models_with_parts_and_kernels(tool, tmp_path):
    tool.steps(tool.Report(tmp_path), 'cpu', small=True, batch_size=2)
    steps = json.loads((tmp_path / 'steps.json').read_text())
    assert [row['contender'] for row in steps['groups']['small']] == tool.SMALL
    parts = steps['parts'][tool.SMALL[1]]
    assert {'teacher, whole images', 'image tower, visible patches', 'objective distillation'} <= set(parts)
    assert all(value >= 0 for value in parts.values())
    assert 'matrix products' in (tmp_path / 'kernels.txt').read_text()
    assert '| backward pass |' in (tmp_path / 'report.md').read_text()


def test_a_part_that_fails_does_not_end_the_others(tool, tmp_path):
    report = tool.Report(tmp_path)

    def fail(report):
        raise RuntimeError('no such kernel')

    report.attempt(fail)
    report.attempt(lambda report: report.add('next', 'runs'))
    assert 'no such kernel' in (tmp_path / 'failures.txt').read_text()
    assert 'runs' in (tmp_path / 'report.md').read_text()
    assert len(list(tmp_path.iterdir())) <= 6


@pytest.mark.parametrize('device', ['cpu', 'cuda'])
def test_the_launcher_starts_one_process_and_its_end_is_reported(tool, tmp_path, launched_by, device):
    report = tool.Report(tmp_path / 'report')
    launched_by('echo "Epoch [1/1][20/20]"; echo')
    tool.launcher(report, device, small=True)
    assert report.lines[:3] == ['## tools/dist_train.sh CONFIG 1', '', 'Exit code 0. Last line: `Epoch [1/1][20/20]`']
    command = (tmp_path / 'called').read_text()
    assert f'--nproc-per-node=1 --master-addr=127.0.0.1 --master-port=41234 {tool.ROOT}/tools/train.py' in command
    assert f'{tool.ROOT}/{tool.TRAINED} --work-dir {tmp_path}/report/launched' in command
    assert 'train_cfg.max_epochs=2' in command  # one alone would end within the warm-up, which is an error
    assert ('--device cpu' in command) == (device == 'cpu')
    assert [path.name for path in (tmp_path / 'report').iterdir()] == ['report.md']


def test_a_launcher_that_fails_or_hangs_is_a_failure_with_what_it_printed(tool, tmp_path, launched_by, monkeypatch):
    report = tool.Report(tmp_path / 'report')
    launched_by('echo "libnccl.so not found" >&2; exit 3')
    report.attempt(tool.launcher, 'cuda', True)
    assert 'Exit code 3. Last line: `libnccl.so not found`' in (tmp_path / 'report/report.md').read_text()
    failures = (tmp_path / 'report/failures.txt').read_text()
    assert 'tools/dist_train.sh ended with 3: libnccl.so not found' in failures
    launched_by('echo "waits for rank 1"; exec sleep 60')
    monkeypatch.setattr(tool, 'LAUNCH_LIMIT', 1)
    with pytest.raises(RuntimeError, match='did not end within 1 s: waits for rank 1'):
        tool.launcher(report, 'cuda', small=True)


@pytest.fixture
def launched_by(tool, tmp_path, monkeypatch):
    """Returns a function that puts a shell text in the place of torchrun on a machine with one GPU."""
    python = tmp_path / 'python'
    monkeypatch.setenv('PYTHON', str(python))
    monkeypatch.setattr(tool, '_make_scenes', lambda folder, number: folder.mkdir(exist_ok=True))

    def launch(text):
        facts = 'case $2 in *launch_facts*) echo 1 4 41234; exit;; esac'
        python.write_text(f'#!/bin/sh\n{facts}\necho "$@" > {tmp_path}/called\n{text}\n')
        python.chmod(0o755)

    return launch


def test_kernels_by_kind():
    assert kind_of_kernel('sm90_xmma_gemm_bf16bf16') == 'matrix products'
    assert kind_of_kernel('triton_poi_fused_add_native_layer_norm') == 'fused by the compiler'
    assert kind_of_kernel('cudnn_generated_fort_native_sdpa_sm90_flash_fprop') == 'attention'
    assert kind_of_kernel('void at::native::multi_tensor_apply_kernel<FusedAdam>') == 'optimizer and teacher'
    assert kind_of_kernel('Memcpy HtoD') == 'copies, casts, indices'
