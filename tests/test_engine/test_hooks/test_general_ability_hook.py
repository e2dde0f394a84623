"""A fall of the zero-shot metric below where the model started is said, and can be taken back."""

import pytest
import torch

from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.engine import GeneralAbilityHook
from mmmaskclip.evaluation import RetrievalRecall, ZeroShotClassification
from mmmaskclip.registry import METRICS


@METRICS.register_module(force=True)
class ScriptedTop1(ZeroShotClassification):
    """Gives one value after the other."""

    values: list = []

    def __init__(self, **kwargs):
        super().__init__(classes=['a', 'b'], templates=['{}'], collect_device='cpu', **kwargs)

    def prepare(self, model): ...

    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        return {'top1': self.values.pop(0)}


@METRICS.register_module(force=True)
class ScriptedRecall(RetrievalRecall):
    """Gives the values after those of the other one."""

    def __init__(self):
        super().__init__(collect_device='cpu')

    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        return {'R@1': ScriptedTop1.values.pop(0)}


@pytest.fixture
def train(tiny_runner):
    """Returns a function that trains with these values of validations; gives the Runner and the log."""

    def run(values, evaluator=None, interval=1, **options):
        ScriptedTop1.values = list(values)
        runner = tiny_runner(
            val_dataloader=dict(
                batch_size=4,
                dataset=dict(type='TinyPairs', size=4),
                sampler=dict(type='DefaultSampler', shuffle=False),
                collate_fn=dict(type='mmmaskclip.tiny_collate'),
            ),
            val_evaluator=evaluator or dict(type='ScriptedTop1'),
            val_cfg=dict(type='EvaluationLoop'),
            train_cfg=dict(val_interval_iters=4),
            custom_hooks=[
                dict(type='ModelStepHook'),
                dict(type='GeneralAbilityHook', **options),
            ],
        )
        runner.train()
        return runner, ''.join(path.read_text() for path in sorted(runner._log_dir and _logs(runner)))

    return run


def _logs(runner):
    from pathlib import Path

    return Path(runner._log_dir).glob('*.log')


def test_warns_of_a_fall_below_the_start_and_goes_on(train):
    runner, log = train([50.0, 49.0, 47.9, 60.0, 58.0, 58.0, 58.0])
    assert 'Starting point of the general ability: classification/top1 50.00.' in log
    assert log.count('General ability has fallen') == 1
    assert 'fallen by more than 2: classification/top1 from 50.00 to 47.90' in log
    assert runner.iter == 16
    assert runner.message_hub.get_info('general_ability') == {'classification/top1': 50.0}


def test_restores_the_last_good_weights_and_stops(train, tmp_path):
    runner, log = train([50.0, 49.5, 30.0], max_fall=1.0, on_fall='restore')
    assert runner.iter == 8
    assert 'The weights of iteration 4 are restored' in log
    restored = read_state_dict(tmp_path / 'run/restored.pth')
    assert all(torch.equal(value, restored[name]) for name, value in runner.model.state_dict().items())
    assert not torch.equal(restored['layer.weight'], read_state_dict(tmp_path / 'run/iter_5.pth')['layer.weight'])


def test_retrieval_is_watched_where_it_may_not_fall_either(train):
    both = [dict(type='ScriptedTop1'), dict(type='ScriptedRecall')]
    values = [50.0, 80.0, 50.0, 77.0, *5 * [50.0, 80.0]]
    assert 'General ability has fallen' not in train(values, both)[1]
    _, log = train(values, both, retrieval=True)
    assert 'fallen by more than 2: retrieval/R@1 from 80.00 to 77.00' in log


def test_nan_is_a_fall(train):
    assert 'General ability has fallen' in train([50.0, float('nan'), 50.0, 50.0, 50.0, 50.0, 50.0])[1]


def test_without_a_zero_shot_set_it_says_so(train):
    _, log = train([], evaluator=dict(type='TinyMetric'))
    assert 'No zero-shot set is validated' in log


def test_mistakes_are_named(train, tiny_runner):
    with pytest.raises(
        ValueError, match=r"metrics has \['top9'\], but the validation gives \['tiny/count', 'tiny/sum'\]"
    ):
        train([], evaluator=dict(type='TinyMetric'), metrics=['top9'])
    with pytest.raises(ValueError, match='there is none: give val_dataloader'):
        tiny_runner(custom_hooks=[dict(type='GeneralAbilityHook', metrics=['top9'])]).train()
    with pytest.raises(ValueError, match='max_fall=-1'):
        GeneralAbilityHook(max_fall=-1)
    with pytest.raises(ValueError, match="on_fall='stop'"):
        GeneralAbilityHook(on_fall='stop')
