from types import SimpleNamespace

import paths
import pytest
from mmengine.config import Config
from mmengine.logging import MessageHub

from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.cli.resume import set_resume
from mmmaskclip.cli.summary import summarize
from mmmaskclip.cli.train import drop_late_schedules, main, parse_args, set_precision
from mmmaskclip.config_check import ConfigMistake

TINY = paths.TINY / 'tiny.py'


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Returns a function that trains the tiny config in a folder and gives what the log file says."""
    monkeypatch.syspath_prepend(str(TINY.parent))
    work_dir = tmp_path / 'run'

    def run(*arguments, options=()):
        before = set(work_dir.glob('*/*.log'))
        given = ['--cfg-options', f'experiment_name={tmp_path.name}-{len(before)}', 'train_cfg.max_epochs=1', *options]
        main([str(TINY), '--work-dir', str(work_dir), *arguments, *given])
        return (
            ''.join(path.read_text() for path in set(work_dir.glob('*/*.log')) - before)
            or max(work_dir.glob('*/*.log')).read_text()
        )

    return run


def test_trains_and_resumes_from_the_newest_checkpoint(train, tmp_path):
    log = train('--amp')
    assert 'Epoch [1/1][8/8]' in log
    summary = log[log.index('Training has ended at epoch 1, iteration 8.') :]
    assert f'Checkpoint: {tmp_path}/run/iter_8.pth' in summary
    assert f'Evaluate: python tools/test.py {TINY} {tmp_path}/run/iter_8.pth' in summary
    assert f'plot_curves.py {tmp_path}/run ' in summary
    (tmp_path / 'run/iter_8.pth').unlink()
    (tmp_path / 'run/last_checkpoint').unlink()
    log = train('--resume')
    assert f'--resume auto: going on from {tmp_path}/run/iter_5.pth' in log
    assert 'resumed epoch: 0, iter: 5' in log
    assert (tmp_path / 'run/iter_8.pth').is_file()


def test_one_option_ends_the_validation(train, tmp_path, monkeypatch):
    """Of a config whose validation reads data that is not there."""
    (tmp_path / 'base.py').write_text(
        f"""_base_ = '{TINY}'
train_cfg = dict(val_interval_iters=2)
val_dataloader = dict(retrieval=dict(batch_size=2, num_workers=0, dataset=dict(type='EvaluationShards', urls='no.tar')))
val_evaluator = dict(retrieval=dict(type='RetrievalRecall'))
val_cfg = dict(type='EvaluationLoop')
"""
    )
    monkeypatch.setitem(train.__globals__, 'TINY', tmp_path / 'base.py')
    with pytest.raises(ConfigMistake, match=r"val_dataloader\.retrieval\.dataset\.urls='no\.tar'"):
        train()
    assert 'Epoch [1/1][8/8]' in train(options=['val_dataloader=None'])


def test_resume_with_nothing_to_resume_says_so_loudly(train, tmp_path):
    log = train('--resume')
    assert 'WARNING' in log
    assert f'there is no checkpoint in {tmp_path}/run. Training starts from scratch' in log


def test_damaged_checkpoints_are_not_resumed(tmp_path):
    cfg = Config({'work_dir': str(tmp_path)})
    write_checkpoint(tmp_path / 'iter_9.pth', {'meta': {}})
    write_checkpoint(tmp_path / 'iter_10.pth', {'meta': {}})
    (tmp_path / 'iter_10.pth').write_bytes(b'half')
    note = set_resume(cfg, 'auto')
    assert note.startswith(f'--resume auto: going on from {tmp_path}/iter_9.pth. Damaged, not used: {tmp_path}/iter_10')
    assert (cfg.load_from, cfg.resume) == (str(tmp_path / 'iter_9.pth'), True)
    with pytest.raises(ConfigMistake, match=r'iter_10\.pth: it is damaged, its 4 bytes do not match'):
        set_resume(cfg, str(tmp_path / 'iter_10.pth'))
    (tmp_path / 'iter_9.pth').write_bytes(b'half')
    with pytest.raises(
        ConfigMistake, match=r'every checkpoint in .* is damaged.*iter_10\.pth.*iter_9\.pth.*Remove them'
    ):
        set_resume(cfg, 'auto')


def test_without_a_checkpoint_the_run_starts_from_the_weights_it_was_given(tmp_path):
    cfg = Config({'work_dir': str(tmp_path), 'load_from': 'clip.pth'})
    assert 'there is no checkpoint' in (note := set_resume(cfg, 'auto'))
    assert 'Training starts with the weights of clip.pth' in note
    assert (cfg.load_from, cfg.resume) == ('clip.pth', False)


def test_looks_where_the_config_puts_its_checkpoints(train, tmp_path):
    hook = 'default_hooks.checkpoint.'
    options = f'{hook}out_dir={tmp_path}/elsewhere', f'{hook}filename_tmpl=at_{{}}.pth'
    train(options=options)
    (tmp_path / 'elsewhere/run/at_8.pth').unlink()
    assert f'--resume auto: going on from {tmp_path}/elsewhere/run/at_5.pth' in train('--resume', options=options)
    # For people, and for Ctrl-C.
    assert (tmp_path / 'run/last_checkpoint').read_text() == f'{tmp_path}/elsewhere/run/at_8.pth'


def test_checkpoint_of_the_config_is_verified_too(train, tmp_path):
    train()
    newest = tmp_path / 'run/iter_8.pth'
    newest.write_bytes(newest.read_bytes()[:-1])
    with pytest.raises(ConfigMistake, match=r'iter_8\.pth: it is damaged'):
        train(options=['resume=True', f'load_from={newest}'])
    cfg = Config({'work_dir': str(tmp_path)})
    set_resume(cfg, 'https://host/iter_8.pth')
    assert (cfg.load_from, cfg.resume) == ('https://host/iter_8.pth', True)


def test_resume_from_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ConfigMistake, match=r'--resume gone\.pth'):
        set_resume(Config({'work_dir': str(tmp_path)}), 'gone.pth')


@pytest.mark.parametrize(
    ('arguments', 'amp', 'resume'),
    [
        ([], None, None),
        (['--amp', '--resume'], 'bf16', 'auto'),
        (['--amp', 'fp16', '--resume', 'a.pth'], 'fp16', 'a.pth'),
    ],
)
def test_arguments(arguments, amp, resume):
    args = parse_args(['c.py', *arguments])
    assert (args.amp, args.resume) == (amp, resume)


def test_precision_applies_to_wrappers_that_have_it():
    cfg = Config({'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD', 'lr': 0.1}}})
    set_precision(cfg, 'fp16')
    assert cfg.optim_wrapper.type == 'mmmaskclip.PretrainOptimWrapper'
    assert cfg.optim_wrapper.precision == 'fp16'
    with pytest.raises(ConfigMistake, match='ApexOptimWrapper'):
        set_precision(Config({'optim_wrapper': {'type': 'ApexOptimWrapper'}}), 'bf16')


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', r'c\.py has no model: it evaluates one that is trained\. Run: python tools/test\.py .*c\.py CHECKPOINT'),
        ("model = dict(type='ImageTextPretrainer')", r'c\.py has no train_dataloader, .* Inherit it'),
    ],
)
def test_a_config_that_trains_nothing_is_named_with_what_to_do(tmp_path, text, message):
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ConfigMistake, match=message):
        main([str(tmp_path / 'c.py')])


def test_the_summary_gives_metrics_and_what_was_skipped(tmp_path, monkeypatch):
    hub = MessageHub.get_instance(tmp_path.name)
    for value in (0.5, 0.25):
        hub.update_scalar('val/retrieval/R@1', value)
    hub.update_info('bad_samples', {'seen': 100, 'causes': {'broken_image': 2, 'no_caption': 1}})
    cfg = Config({'model': {'type': 'ImageTextPretrainer'}})
    (tmp_path / 'last_checkpoint').write_text('w/epoch_2.pth')
    runner = SimpleNamespace(work_dir=str(tmp_path), epoch=2, iter=9, message_hub=hub, cfg=cfg)
    text = summarize(runner, 'c.py')
    assert 'Last validation: retrieval/R@1: 0.25 (highest 0.5)' in text
    assert 'Skipped samples: 3 of 100 (broken_image 2, no_caption 1), listed in' in text
    assert 'visualize_similarity.py PHOTO --words WORD ... --config c.py --checkpoints w/epoch_2.pth' in text
    assert 'tools/test.py' not in text
    (tmp_path / 'last_checkpoint').unlink()
    assert f'Checkpoint: none was saved in {tmp_path}' in summarize(runner, 'c.py')
    assert f'Curves: python tools/analysis_tools/plot_curves.py {tmp_path} --keys' in text
    monkeypatch.chdir(tmp_path)  # no clone
    assert f'Curves: mmmaskclip plot_curves {tmp_path} --keys' in summarize(runner, 'c.py')


def test_a_schedule_that_begins_where_a_shortened_run_ends_is_left_out_and_named():
    cfg = Config.fromfile(paths.ROOT / 'configs/clip/vitt16_flickr8k.py')
    assert drop_late_schedules(cfg) == []
    assert len(cfg.param_scheduler) == 2
    cfg.train_cfg.max_epochs = 1
    (note,) = drop_late_schedules(cfg)
    assert note.startswith(
        'param_scheduler.1, CosineAnnealingLR, begins at epoch 1, but the run ends at epoch 1 (train_'
    )
    assert [one.type for one in cfg.param_scheduler] == ['LinearLR']
    cfg = Config(dict(train_cfg=dict(max_iters=500), param_scheduler=[dict(type='PolyLR', by_epoch=False, begin=500)]))
    assert (
        'begins at iteration 500, but the run ends at iteration 500 (train_cfg.max_iters)'
        in drop_late_schedules(cfg)[0]
    )
