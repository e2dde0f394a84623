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
    assert [row['contender'] for row in steps['rows']] == tool.SMALL
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


def test_kernels_by_kind():
    assert kind_of_kernel('sm90_xmma_gemm_bf16bf16') == 'matrix products'
    assert kind_of_kernel('triton_poi_fused_add_native_layer_norm') == 'fused by the compiler'
    assert kind_of_kernel('cudnn_generated_fort_native_sdpa_sm90_flash_fprop') == 'attention'
    assert kind_of_kernel('void at::native::multi_tensor_apply_kernel<FusedAdam>') == 'optimizer and teacher'
    assert kind_of_kernel('Memcpy HtoD') == 'copies, casts, indices'
