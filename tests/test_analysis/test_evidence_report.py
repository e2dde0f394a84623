"""Table, order and verdicts of a comparison."""

import pytest

from mmmaskclip.analysis.evidence_configs import METHODS
from mmmaskclip.analysis.evidence_report import CLAIMS, NAMES, report, verdict


def metric(mean, spread=None):
    return dict(mean=mean, spread=spread)


@pytest.mark.parametrize(
    ('better', 'worse', 'expected'),
    [
        (metric(40, 1), metric(35, 2), 'holds (+5.0)'),
        (metric(35, 1), metric(40, 2), 'reversed (-5.0)'),
        (metric(36, 2), metric(35, 2), 'undecided (+1.0)'),
        (metric(40), metric(30), 'undecided (+10.0)'),
        (None, metric(3, 1), ''),
        (metric(None), metric(3, 1), ''),
    ],
)
def test_a_claim_holds_only_beyond_both_spreads(better, worse, expected):
    assert verdict(better, worse) == expected


def test_the_report_has_the_table_the_orders_and_every_claim():
    def entry(value, seeds=2):
        return dict(
            seeds=list(range(seeds)), epochs=2, minutes=1.5, metrics={'classification/top1': metric(value, 0.5)}
        )

    methods = dict(clip=entry(30), clip_mae=entry(33), maskclip_v1=entry(32.8), silc=entry(20))
    text = report({'scenes': methods}, 'On a machine.', ['scenes: silc, seed 2: the time was over'])
    assert '| CLIP + MAE | 33.0 ± 0.5 | 2 | 2 | 1.5 |' in text
    assert '- zero-shot top-1: SILC, CLIP, MaskCLIP v1, CLIP + MAE' in text
    assert '| CLIP + MAE over CLIP | MaskCLIP v1: ImageNet zero-shot 43.5 over 40.8, LAION-20M | holds (+3.0) |' in text
    assert 'undecided (-0.2)' in text
    assert 'reversed (-10.0)' in text
    assert '- scenes: silc, seed 2: the time was over' in text
    assert 'segmentation mIoU' not in text  # nothing measured it


def test_claims_are_about_methods_that_are_run():
    assert set(NAMES) == set(METHODS)
    assert {name for claim in CLAIMS for name in (claim.better, claim.worse)} < set(METHODS)
