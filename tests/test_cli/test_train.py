from pathlib import Path

import pytest
from mmengine.config import Config

from mmmaskclip.cli.train import main, parse_args, set_precision, set_resume
from mmmaskclip.utils.checkpoint_files import write_checkpoint

TINY = Path(__file__).parents[1] / 'tiny/tiny.py'


@pytest.fixture
def train(monkeypatch, tmp_path):
    """Returns a function that trains the tiny config in a folder and gives what the log file says."""
    monkeypatch.syspath_prepend(str(TINY.parent))
    work_dir = tmp_path / 'run'

    def run(*arguments):
        before = set(work_dir.glob('*/*.log'))
        options = ['--cfg-options', f'experiment_name={tmp_path.name}-{len(before)}', 'train_cfg.max_epochs=1']
        main([str(TINY), '--work-dir', str(work_dir), *arguments, *options])
        return (
            ''.join(path.read_text() for path in set(work_dir.glob('*/*.log')) - before)
            or max(work_dir.glob('*/*.log')).read_text()
        )

    return run


def test_trains_and_resumes_from_the_newest_checkpoint(train, tmp_path):
    assert 'Epoch [1/1][8/8]' in train('--amp')
    (tmp_path / 'run/iter_8.pth').unlink()
    (tmp_path / 'run/last_checkpoint').unlink()
    log = train('--resume')
    assert f'--resume auto: going on from {tmp_path}/run/iter_5.pth' in log
    assert 'resumed epoch: 0, iter: 5' in log
    assert (tmp_path / 'run/iter_8.pth').is_file()


def test_resume_with_nothing_to_resume_says_so_loudly(train, tmp_path):
    log = train('--resume')
    assert 'WARNING' in log
    assert f'NO CHECKPOINT in {tmp_path}/run. TRAINING STARTS FROM SCRATCH' in log


def test_damaged_checkpoints_are_not_resumed(tmp_path):
    cfg = Config({'work_dir': str(tmp_path)})
    write_checkpoint(tmp_path / 'iter_9.pth', {'meta': {}})
    (tmp_path / 'iter_10.pth').write_bytes(b'half')
    told = set_resume(cfg, 'auto')
    assert told.startswith(f'--resume auto: going on from {tmp_path}/iter_9.pth. DAMAGED, not used: {tmp_path}/iter_10')
    assert (cfg.load_from, cfg.resume) == (str(tmp_path / 'iter_9.pth'), True)
    with pytest.raises(ValueError, match=r'iter_10\.pth: it is damaged, File is not a zip file'):
        set_resume(cfg, str(tmp_path / 'iter_10.pth'))
    (tmp_path / 'iter_9.pth').write_bytes(b'half')
    with pytest.raises(ValueError, match=r'every checkpoint in .* is damaged.*iter_10\.pth.*iter_9\.pth.*Remove them'):
        set_resume(cfg, 'auto')


def test_resume_from_a_path_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'--resume gone\.pth'):
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
    with pytest.raises(ValueError, match='ApexOptimWrapper'):
        set_precision(Config({'optim_wrapper': {'type': 'ApexOptimWrapper'}}), 'bf16')
