import numpy as np
import pytest
from PIL import Image

from mmmaskclip.analysis.comparison import draw_bars, metric_names, summarize, summary_table


def run(accuracy, step_time=0.1, **metrics):
    return dict(metrics=dict(top1=accuracy, **metrics), step_time=step_time, minutes=2.0, memory=100.0)


RUNS = {
    'clip': {0: run(10.0), 1: run(13.0), 2: run(11.5)},
    'ours': {0: run(12.0, 0.15, mIoU=3.0), 2: run(15.0, 0.17)},
    'late': {},
}


def test_mean_spread_and_paired_difference():
    summary = summarize(RUNS, 'clip')
    clip, ours = summary['clip'], summary['ours']
    values = [10.0, 13.0, 11.5]
    expected = dict(mean=np.mean(values), spread=np.std(values, ddof=1), difference=None, difference_spread=None)
    assert clip['metrics'] == {'top1': pytest.approx(expected)}
    # Only seeds 0 and 2 have both.
    pairs = [12.0 - 10.0, 15.0 - 11.5]
    assert ours['metrics']['top1']['difference'] == pytest.approx(np.mean(pairs))
    assert ours['metrics']['top1']['difference_spread'] == pytest.approx(np.std(pairs, ddof=1))
    assert ours['metrics']['mIoU'] == dict(mean=3.0, spread=None, difference=None, difference_spread=None)
    assert ours['time_ratio'] == pytest.approx(1.6)
    assert summary['late'] == dict(seeds=[], metrics={}, step_time=None, minutes=None, memory=None, time_ratio=None)


def test_table():
    table = summary_table(summarize(RUNS, 'clip'), {'clip': 4, 'ours': 3, 'late': None}, 'clip', ['top1', 'mIoU'])
    assert table.splitlines() == [
        '| method | top1 | mIoU | seeds | epochs | ms per step | time | minutes | memory |',
        '|---|---|---|---|---|---|---|---|---|',
        '| clip (reference) | 11.50 ± 1.50 |  | 0, 1, 2 | 4 | 100.0 | 1.00x | 2.0 | 100 MB |',
        '| ours | 13.50 ± 2.12 | 3.00 | 0, 2 | 3 | 160.0 | 1.60x | 2.0 | 100 MB |',
        '| late |  |  | none |  |  |  |  |  |',
    ]


def test_metrics_to_show():
    summary = summarize(RUNS, 'clip')
    assert metric_names(summary) == ['top1', 'mIoU']
    assert metric_names(summary, ['mIoU']) == ['mIoU']
    with pytest.raises(KeyError, match='no run has measured top5; there are top1, mIoU'):
        metric_names(summary, ['top5'])


def test_figure_with_missing_values(tmp_path):
    draw_bars(summarize(RUNS, 'clip'), ['top1', 'mIoU', 'top1', 'mIoU'], tmp_path / 'figure.png')
    with Image.open(tmp_path / 'figure.png') as image:
        assert image.format == 'PNG'
        assert min(image.size) > 200
