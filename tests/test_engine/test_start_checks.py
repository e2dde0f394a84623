import pytest


@pytest.fixture
def logged(tiny_runner, tmp_path):
    """Returns a function that trains tests/tiny/tiny.py with options and gives the warnings of its log."""

    read: dict[str, int] = {}

    def train(**options):
        runner = tiny_runner(**options)
        runner.train()
        (log,) = (tmp_path / 'run' / runner.timestamp).glob('*.log')
        # Runs of one second share a log.
        lines = log.read_text().splitlines()
        new, read[runner.timestamp] = lines[read.get(runner.timestamp, 0) :], len(lines)
        return [line for line in new if ' - WARNING - ' in line]

    return train


def test_schedules_that_end_with_the_run_and_recipes_without_a_batch_say_nothing(logged):
    assert not [line for line in logged() if 'The schedules of' in line or 'The global batch' in line]


@pytest.mark.parametrize(
    ('epochs', 'text'),
    [
        (1, 'The schedules of lr end at iteration 16, but the run ends at iteration 8: lr never reaches its end.'),
        (3, 'end at iteration 16, but the run ends at iteration 24: lr keeps its last value from there on.'),
    ],
)
def test_schedules_of_another_length_are_named(logged, epochs, text):
    assert any(text in line for line in logged(**{'train_cfg.max_epochs': epochs}))


def test_schedules_by_epochs_and_without_an_end(logged):
    endless = dict(type='MultiStepLR', by_epoch=True, milestones=[1], gamma=0.5)
    short = dict(type='LinearLR', by_epoch=True, start_factor=0.1, begin=0, end=1)
    momentum = dict(type='LinearMomentum', by_epoch=True, start_factor=0.1, begin=0, end=1)
    assert not [line for line in logged(param_scheduler=[short, endless]) if 'The schedules of' in line]
    lines = logged(param_scheduler=[short, endless, momentum])
    assert [line for line in lines if 'The schedules of momentum end at epoch 1, but the run ends at epoch 2' in line]


def test_another_global_batch_than_the_recipes_is_named_with_what_to_change(logged):
    (line,) = (line for line in logged(auto_scale_lr=dict(base_batch_size=8)) if 'The global batch' in line)
    assert 'The global batch is 2 = 1 processes x batch_size 2 x accumulative_counts 1, but the recipe is made' in line
    assert 'made for 8 (auto_scale_lr.base_batch_size)' in line
    assert 'a contrastive loss compares 2 pairs. To train the recipe: set train_dataloader.batch_size=8.' in line
    accumulated = {'auto_scale_lr': dict(base_batch_size=8), 'optim_wrapper.accumulative_counts': 4}
    assert not [line for line in logged(**accumulated) if 'The global batch' in line]


def test_a_long_run_that_nothing_validates_says_so(logged, monkeypatch):
    unwatched = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)
    assert not [line for line in logged(**unwatched) if 'Nothing validates' in line]
    monkeypatch.setattr('mmmaskclip.engine.start_checks._LONG', 16)
    assert any('Nothing validates this run of 16 iterations' in line for line in logged(**unwatched))
    # Nor does a validation of which nothing is there.
    absent = dict(type='LabelledImages', source={}, folder='nowhere', classes=['a'], transforms=[], num_classes=1)
    absent = dict(dataset=absent, batch_size=1, sampler=dict(type='DefaultSampler', shuffle=False))
    lines = logged(
        val_cfg=dict(type='EvaluationLoop', skip_missing=True),
        val_dataloader=dict(zoo=absent),
        val_evaluator=dict(zoo=dict(type='ZeroShotClassification', classes=['a'], templates=['a {}'])),
    )
    assert any('Not evaluated: zoo. There is no folder nowhere' in line for line in lines)
    assert any('Nothing validates this run of 16 iterations' in line for line in lines)


def test_a_fresh_run_in_a_used_folder_says_so(logged, tmp_path):
    assert not [line for line in logged() if 'of another run (' in line]
    (line,) = (line for line in logged() if 'of another run (' in line)
    assert f'{tmp_path}/run holds 4 checkpoints of another run (iter_16.pth, iter_15.pth, iter_10.pth, ...)' in line
    assert 'this run starts afresh: until this run has saved one, --resume would take theirs.' in line
    (line,) = (
        line for line in logged(load_from=f'{tmp_path}/run/iter_10.pth', resume=True) if 'of another run (' in line
    )
    assert 'holds 2 checkpoints of another run (iter_16.pth, iter_15.pth), but this run resumed at iteration 10' in line


def test_files_of_an_abandoned_line_are_named_where_they_count_epochs_too(logged, tmp_path):
    options = {'default_hooks.checkpoint': dict(by_epoch=True, interval=1)}
    logged(**options)
    (line,) = (
        line
        for line in logged(**options, load_from=f'{tmp_path}/run/epoch_1.pth', resume=True)
        if 'of another run (' in line
    )
    assert 'holds 1 checkpoints of another run (epoch_2.pth), but this run resumed at iteration 8' in line
    assert not [
        line
        for line in logged(**options, load_from=f'{tmp_path}/run/epoch_2.pth', resume=True)
        if 'of another run (' in line
    ]


@pytest.mark.parametrize('by_epoch', [False, True])
def test_a_resumed_run_with_nothing_left_to_do_says_so(logged, tmp_path, by_epoch):
    options = {'train_cfg.max_epochs': 1, 'default_hooks.checkpoint': dict(by_epoch=by_epoch, interval=1)}
    logged(**options)
    name = 'epoch_1.pth' if by_epoch else 'iter_8.pth'
    lines = logged(**options, load_from=f'{tmp_path}/run/{name}', resume=True)
    assert any('Nothing is left to train: the run is at iteration 8 of 8.' in line for line in lines)
