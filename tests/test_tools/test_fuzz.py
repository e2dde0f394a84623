import random

import pytest
from paths import load_module

from mmmaskclip.analysis import fuzz_data


@pytest.fixture
def fuzz():
    return load_module('tools/analysis_tools/fuzz.py')


def test_some_cases_of_each_kind_end_in_an_error_or_a_skip(fuzz):
    found = fuzz.main(['--cases', '56', '--seed', '100'])
    assert sum(found.values()) == 56
    assert {outcome for _, outcome in found} <= {'ok', 'skip', 'error', 'unseen'}
    assert all(found[f'fuzz_{kind}', 'skip'] for kind in ('shard', 'caption', 'checkpoint'))
    assert found['fuzz_config', 'error'] > 4


def test_a_mistake_that_nothing_names_fails(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, 'load_config', lambda args: None)
    monkeypatch.setattr(fuzz, 'check_paths', lambda cfg: None)
    monkeypatch.setattr(fuzz, 'MISTAKES', {'a misspelt key': fuzz.MISTAKES['a misspelt key']})
    assert 'this mistake is not named: a misspelt key' in fuzz.run_case(3)[1]


def test_samples_of_a_good_shard_that_are_lost_fail(fuzz, monkeypatch):
    answers = iter([('ok', {f'good/{index}': b'' for index in range(12)}), ('skip', {'good/0': b''})])
    monkeypatch.setattr(fuzz_data, 'read_shards', lambda urls: next(answers))
    assert '11 samples of the good shard are lost or changed' in fuzz.run_case(0)[1]


def test_other_ends_are_told_and_fail(fuzz, monkeypatch, capsys):
    monkeypatch.setattr(fuzz, 'CASES', [lambda folder, draw: {}['lost']])
    with pytest.raises(SystemExit):
        fuzz.main(['--cases', '1'])
    assert "KeyError: 'lost'" in capsys.readouterr().out


def test_a_case_is_a_function_of_its_seed(fuzz):
    data = bytes(range(200))
    damaged = [fuzz.damage(data, random.Random(seed)) for seed in range(20)]
    assert damaged == [fuzz.damage(data, random.Random(seed)) for seed in range(20)]
    assert sum(item != data for item in damaged) > 15
