import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub

from mmmaskclip.engine.hooks import source_counts_hook
from mmmaskclip.engine.hooks.source_counts_hook import SourceCountsHook
from mmmaskclip.registry import HOOKS

BATCH = {'source': ['pairs'] * 3 + ['labelled'] * 2}


def _runner(name='source counts'):
    return SimpleNamespace(hooks=[LoggerHook(interval=2)], message_hub=MessageHub(name), train_dataloader=range(5))


def _train(hook, runner, first, last):
    hook.before_train(runner)
    for batch_idx in range(first, last):
        hook.after_train_iter(runner, batch_idx, BATCH)


def _logged(runner):
    scalars = runner.message_hub.log_scalars
    return {name: scalars[f'train/source/{name}'].data[0].tolist() for name in ('pairs', 'labelled')}


def test_counts_are_logged_at_the_interval_and_the_end_of_the_epoch():
    runner = _runner()
    _train(SourceCountsHook(), runner, 0, 5)
    assert _logged(runner) == {'pairs': [6, 12, 15], 'labelled': [4, 8, 10]}


def test_counts_survive_a_resume_between_two_intervals():
    first = _runner('first')
    _train(SourceCountsHook(), first, 0, 3)
    second = _runner('second')
    second.message_hub.load_state_dict(first.message_hub.state_dict())
    _train(SourceCountsHook(), second, 3, 5)
    assert _logged(second) == {'pairs': [6, 12, 15], 'labelled': [4, 8, 10]}


def test_counts_are_of_all_ranks(monkeypatch):
    monkeypatch.setattr(source_counts_hook, 'get_world_size', lambda: 4)
    runner = _runner('ranks')
    _train(SourceCountsHook(), runner, 0, 2)
    assert _logged(runner) == {'pairs': [24], 'labelled': [16]}


def test_a_dataset_without_sources_is_explained():
    hook, runner = SourceCountsHook(), _runner('without')
    hook.before_train(runner)
    with pytest.raises(KeyError, match="the batch has no 'source': use MixedSources"):
        hook.after_train_iter(runner, 0, {'key': []})


def test_in_the_log_of_a_run(tiny_runner, monkeypatch):
    runner = tiny_runner()
    runner.register_hook(dict(type='SourceCountsHook'))
    loader, model = runner.train_loop.dataloader, type(runner.model)
    collate, forward = loader.collate_fn, model.forward
    loader.collate_fn = lambda samples: collate(samples) | {'source': ['a', 'b']}
    monkeypatch.setattr(model, 'forward', lambda self, source=None, **batch: forward(self, **batch))
    runner.train()
    lines = Path(runner.work_dir, runner.timestamp, 'vis_data/scalars.json').read_text().splitlines()
    assert [json.loads(line)['source/a'] for line in lines] == [4, 8, 12, 16]
    assert HOOKS.get('SourceCountsHook') is SourceCountsHook
