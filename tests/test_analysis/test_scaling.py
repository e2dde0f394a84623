import pytest
from paths import ROOT, load_module

from mmmaskclip.analysis.scaling import CARDS, H100, contrast_bytes, gpu_hours, seconds_on


def test_hours_and_other_cards_by_hand():
    # 500 M images at 1,000 per second are 138.9 hours; at half of the rate of each, twice as much.
    assert gpu_hours(1000, 20e6, 25) == pytest.approx(138.89, abs=0.01)
    assert gpu_hours(1000, 20e6, 25, efficiency=0.5) == pytest.approx(277.78, abs=0.01)
    assert seconds_on(H100, 2.0) == pytest.approx(2.0)
    assert seconds_on(CARDS[0], 1.0, matrix_share=1.0) == pytest.approx(989 / 125)
    assert seconds_on(CARDS[0], 1.0, matrix_share=0.0) == pytest.approx(3.35 / 0.9)


def test_logits_held():
    assert contrast_bytes(128, 1000, 2**26) == 4 * 128 * 1000
    assert contrast_bytes(128, 1000, 3500) == 4 * 3 * 1000
    assert contrast_bytes(128, 1000, 10) == 4 * 1000


def test_tables(capsys):
    tool = load_module('tools/analysis_tools/scaling.py')
    tool.main(['--own', '4', '--global-batch', '16', '--ranks', '2', '64'])
    output = capsys.readouterr().out
    assert '| 64 |' in output
    assert '| MaskCLIP v1, eager |' in output


def test_the_table_of_the_page_is_what_the_model_gives():
    table = load_module('tools/analysis_tools/scaling.py').hours_table()
    assert table in (ROOT / 'docs/performance.md').read_text(encoding='utf-8')
