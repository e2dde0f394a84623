import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from ranks import run_ranks

from mmmaskclip.engine.hooks.bad_samples_hook import BadSamplesHook


def _total(runner):
    return sum(runner.message_hub.get_info('bad_samples')['causes'].values())


def _record(number, cause='not_an_image'):
    return {'cause': cause, 'key': f'a.tar/{number}', 'shard': 'a.tar', 'detail': 'x'}


def _batch(*records, size=4):
    return {'key': ['k'] * size, 'skipped': list(records)}


def _runner(work_dir):
    logged = []
    return SimpleNamespace(
        work_dir=str(work_dir),
        iter=0,
        hooks=[],
        logged=logged,
        logger=SimpleNamespace(warning=logged.append),
        message_hub=MessageHub('bad samples'),
    )


def _train(hook, runner, batches):
    hook.before_train(runner)
    for batch in batches:
        hook.after_train_iter(runner, 0, batch)
        runner.iter += 1
    hook.after_train(runner)


def _listed(work_dir):
    return [json.loads(line) for line in (work_dir / 'bad_samples.jsonl').read_text().splitlines()]


def test_lists_counts_and_logs(tmp_path):
    runner = _runner(tmp_path)
    batches = [_batch(_record(1)), _batch(_record(2, 'empty_file'), _record(3)), _batch(), _batch(), _batch(_record(4))]
    _train(BadSamplesHook(interval=2), runner, batches)
    assert [record['key'] for record in _listed(tmp_path)] == ['a.tar/1', 'a.tar/2', 'a.tar/3', 'a.tar/4']
    assert _total(runner) == 4
    assert len(runner.logged) == 2
    assert '3 samples skipped so far, 37.50% of 8: not_an_image 2, empty_file 1' in runner.logged[0]
    assert '4 samples skipped so far, 20.00% of 20: not_an_image 3, empty_file 1' in runner.logged[1]


def test_a_record_of_many_samples_counts_as_many_and_notes_count_as_none(tmp_path):
    hook, runner = BadSamplesHook(max_share=0.02, interval=1), _runner(tmp_path)
    hook.before_train(runner)
    notes = [_record(1, 'retried_shard'), _record(2, 'repeated_sample') | {'samples': 5000}]
    hook.after_train_iter(runner, 0, _batch(*notes, _record(3, 'broken_tar') | {'samples': 20}, size=1000))
    assert '20 samples skipped so far, 2.00% of 1000: repeated_sample 5000, broken_tar 20' in runner.logged[0]
    with pytest.raises(RuntimeError, match='40 of 1500 samples since this start could not be used'):
        hook.after_train_iter(runner, 1, _batch(_record(4, 'broken_tar') | {'samples': 20}, size=500))
    # What an earlier start has noted is no loss that would be taken off.
    resumed = BadSamplesHook(max_share=0.02, interval=1)
    resumed.before_train(runner)
    with pytest.raises(RuntimeError, match='21 of 1000 samples since this start'):
        resumed.after_train_iter(runner, 2, _batch(_record(5, 'broken_tar') | {'samples': 21}, size=1000))


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='no device that is always full')
def test_on_a_full_disk_records_wait_for_space(tmp_path):
    runner, hook, path = _runner(tmp_path), BadSamplesHook(interval=1), tmp_path / 'bad_samples.jsonl'
    hook.before_train(runner)
    path.symlink_to('/dev/full')
    hook.after_train_iter(runner, 0, _batch(_record(1)))
    path.unlink()
    hook.after_train_iter(runner, 1, _batch(_record(1), _record(2)))
    hook.after_train(runner)
    assert [record['key'] for record in _listed(tmp_path)] == ['a.tar/1', 'a.tar/2']


def test_nothing_bad_says_nothing(tmp_path):
    runner = _runner(tmp_path)
    _train(BadSamplesHook(interval=1), runner, [_batch()] * 3)
    assert runner.logged == []
    assert not (tmp_path / 'bad_samples.jsonl').exists()
    assert _total(runner) == 0


def test_stops_above_the_share(tmp_path):
    hook, runner = BadSamplesHook(max_share=0.02, interval=1), _runner(tmp_path)
    # 20 of the first 1000 are allowed, however early they come.
    with pytest.raises(
        RuntimeError, match='21 of 8 samples since this start could not be used, more than max_share=2.0%: not_an_im'
    ):
        _train(hook, runner, [_batch(*map(_record, range(20))), _batch(_record(20))])
    assert len(_listed(tmp_path)) == 21
    # Once the data is repaired a resumed run is not stopped for what the one before has skipped.
    _train(hook, runner, [_batch(*map(_record, range(20)))])
    assert _total(runner) == 41
    _train(BadSamplesHook(max_share=0.02), _runner(tmp_path), [_batch(*map(_record, range(40)), size=2000)])


def test_a_resumed_run_goes_on_counting_and_lists_nothing_twice(tmp_path):
    first = _runner(tmp_path)
    _train(BadSamplesHook(), first, [_batch(_record(1), _record(2))])
    with open(tmp_path / 'bad_samples.jsonl', 'a') as file:
        file.write('{"cause": "not_')
    runner = _runner(tmp_path)
    runner.message_hub.load_state_dict(first.message_hub.state_dict())
    _train(BadSamplesHook(), runner, [_batch(_record(2), _record(3))])
    assert _total(runner) == 4
    lines = (tmp_path / 'bad_samples.jsonl').read_text()
    assert lines.count('a.tar/2') == 1
    assert lines.count('a.tar/3') == 1


def _two_ranks(folder):
    torch.distributed.init_process_group('gloo')
    rank = torch.distributed.get_rank()
    batches = [_batch(_record(1)) if rank else _batch(), _batch(_record(2)) if not rank else _batch(_record(3))]
    with pytest.raises(RuntimeError) as caught:
        # 3 of 16 are too many, but only once both ranks' counts are added up.
        _train(BadSamplesHook(max_share=0.002, interval=1), _runner(folder), batches)
    (folder / f'error{rank}').write_text(str(caught.value))


def test_two_ranks_stop_together(tmp_path):
    run_ranks(_two_ranks, tmp_path)
    errors = [(tmp_path / f'error{rank}').read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert '3 of 16 samples since this start could not be used' in errors[0]
    assert sorted(record['key'] for record in _listed(tmp_path)) == ['a.tar/1', 'a.tar/2', 'a.tar/3']


def test_a_checkpoint_is_saved_before_the_run_stops_and_resumes_exactly(tiny_runner, tmp_path):
    def options(max_share):
        hooks = [dict(type='ModelStepHook'), dict(type='BadSamplesHook', max_share=max_share, interval=6)]
        return {'custom_hooks': hooks, 'default_hooks.checkpoint.interval': 100}

    whole = tiny_runner(**options(1.0))
    whole.train()
    with pytest.raises(RuntimeError, match=r'run/iter_\d+\.pth is saved; --resume continues from it'):
        tiny_runner(**options(0.0)).train()
    (saved,) = (path for path in (tmp_path / 'run').glob('iter_*.pth') if path.name != 'iter_16.pth')
    late = tiny_runner(**options(1.0), load_from=str(saved), resume=True)
    torch.testing.assert_close(late.train().state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert late.model.seen == whole.model.seen[2 * int(saved.stem[5:]) :]
    assert _total(late) == _total(whole)
