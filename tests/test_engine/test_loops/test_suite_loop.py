"""A suite on tiny folders of images: what is missing, what is done already, two processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image
from torch.nn import functional as F

from mmmaskclip.datasets.labelled_images import MissingImages
from mmmaskclip.engine.loops.suite_loop import SuiteLoop
from mmmaskclip.engine.loops.suite_table import Published, format_suite
from mmmaskclip.utils.setup_env import leave_processes, register_all_modules

CONFIGS = Path(__file__).parents[3] / 'configs/zero_shot'
CLASSES = ['ant', 'bee', 'cow']


class TinyModel(BaseModel):
    """Embeds an image as its mean colour, and a text as the sum of random vectors of its tokens."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(49408, 3)
        torch.nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))

    def encode_text(self, tokens):
        return F.normalize((self.words(tokens.long()) * (tokens != 0).unsqueeze(-1)).sum(1), dim=-1)

    def forward(self, image, label, key, mode='tensor'):
        embeds = F.normalize(image.float().mean((2, 3)) - 128, dim=-1)
        return [{'key': k, 'image_embed': x, 'label': y} for k, x, y in zip(key, embeds, label, strict=True)]


def write(folder, counts=(3, 4, 2), seed=0):
    """Images of random colours, so that some are classified right; an uneven number."""
    generator = torch.Generator().manual_seed(seed)
    for name, count in zip(CLASSES, counts, strict=True):
        for index in range(count):
            path = folder / name / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new('RGB', (4, 4), tuple(torch.randint(256, (3,), generator=generator).tolist())).save(path)


def task(folder, name, num_samples, templates):
    dataset = dict(
        type='LabelledImages',
        source=dict(type='torchvision/ImageFolder', root=str(folder / name)),
        folder=str(folder / name),
        classes=CLASSES,
        transforms=[dict(type='torchvision/Resize', size=4)],
        num_samples=num_samples,
        num_classes=3,
        get=f'Draw {name}.',
    )
    loader = dict(
        dataset=dataset,
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='mmmaskclip.collate_image_text'),
    )
    return loader, dict(type='ZeroShotClassification', classes=CLASSES, templates=templates)


SETS = {'first': 9, 'absent': 9, 'second': 7}


def make_runner(folder, work_dir, sets=None, templates=('a {}',), model=None, **changes):
    register_all_modules()
    tasks = {name: task(folder, name, count, templates) for name, count in (sets or SETS).items()}
    published = [dict(name='theirs', average=50.0, source='a paper', without=['second'])] if sets is None else []
    return Runner(
        model=model or TinyModel(),
        work_dir=str(work_dir),
        experiment_name=f'{Path(work_dir).name}_{torch.randint(10**9, (1,)).item()}',
        test_dataloader={name: loader for name, (loader, _) in tasks.items()},
        test_evaluator={name: metric for name, (_, metric) in tasks.items()},
        test_cfg=dict(type=SuiteLoop, suite='tiny', published=published),
        log_level='INFO',
        default_scope='mmmaskclip',
        **changes,
    )


@pytest.fixture
def sets(tmp_path):
    write(tmp_path / 'data/first')
    write(tmp_path / 'data/second', (1, 5, 1), seed=1)
    return tmp_path / 'data'


def result(work_dir):
    (path,) = Path(work_dir).glob('tiny_*.json')
    return json.loads(path.read_text())


def log(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


@pytest.fixture
def evaluated(monkeypatch):
    """Names of the sets that were evaluated and not taken from the file."""
    names = []
    evaluate = SuiteLoop._evaluate
    monkeypatch.setattr(SuiteLoop, '_evaluate', lambda loop, name: (names.append(name), evaluate(loop, name))[1])
    return names


def test_runs_what_is_present_and_names_what_is_missing(sets, tmp_path):
    runner = make_runner(sets, tmp_path / 'work')
    metrics = runner.test()
    scores = [metrics['first/score'], metrics['second/score']]
    assert 0 < scores[0] < 100
    assert metrics['tiny/average'] == pytest.approx(sum(scores) / 2)
    assert not [name for name in metrics if name.startswith('absent')]

    found = result(tmp_path / 'work')
    assert (found['suite'], found['missing'], list(found['sets'])) == ('tiny', ['absent'], ['first', 'second'])
    assert found['average'] == pytest.approx(metrics['tiny/average'])
    first = found['sets']['first']
    assert first['metrics']['top1'] == pytest.approx(metrics['first/top1'])
    assert (first['fingerprint']['num_samples'], first['fingerprint']['num_classes']) == (9, 3)
    assert {'weights', 'model', 'classes', 'templates', 'transforms', 'metric'} <= set(first['fingerprint'])

    text = log(runner)
    assert 'not present: absent' in text
    assert f'average of 2 of 3  {sum(scores) / 2:6.2f}' in text
    assert f'theirs   50.00   ours {scores[0]:6.2f} (1 of 2)   a paper' in text


def test_equals_each_set_alone(sets, tmp_path):
    both = make_runner(sets, tmp_path / 'both').test()
    for name in ('first', 'second'):
        alone = make_runner(sets, tmp_path / name, {name: SETS[name]}).test()
        del alone['tiny/average']
        assert alone == {key: value for key, value in both.items() if key.startswith(name)}


def test_second_call_evaluates_nothing_and_gives_the_same(sets, tmp_path, evaluated):
    expected = make_runner(sets, tmp_path).test()
    assert evaluated == ['first', 'second']
    again = make_runner(sets, tmp_path)
    assert again.test() == expected
    assert evaluated == ['first', 'second']
    assert 'first (1 of 3) is done already' in log(again)


def test_only_what_changed_is_evaluated_again(sets, tmp_path, evaluated):
    make_runner(sets, tmp_path).test()
    evaluated.clear()
    write(sets / 'absent', seed=2)
    make_runner(sets, tmp_path).test()
    assert evaluated == ['absent']

    evaluated.clear()
    make_runner(sets, tmp_path, templates=('the {}',)).test()
    assert evaluated == ['first', 'absent', 'second']

    evaluated.clear()
    with torch.autocast('cpu', torch.bfloat16):
        make_runner(sets, tmp_path, templates=('the {}',)).test()
    assert evaluated == ['first', 'absent', 'second']

    evaluated.clear()
    other = TinyModel()
    other.words.weight.data[7] += 1
    make_runner(sets, tmp_path, model=other).test()
    assert evaluated == ['first', 'absent', 'second']
    # Other weights have their own file.
    assert len(list(tmp_path.glob('tiny_*.json'))) == 2


def test_new_content_of_a_prompt_file_is_noticed(sets, tmp_path, evaluated):
    path = tmp_path / 'prompts.json'
    for template in ('a {}', 'the {}'):
        path.write_text(json.dumps({'source': 'mine', 'templates': [template]}))
        make_runner(sets, tmp_path / 'work', {'first': 9}, templates=str(path)).test()
    assert evaluated == ['first', 'first']


def test_wrong_count_ends_the_run_and_what_was_done_remains(sets, tmp_path, evaluated):
    with pytest.raises(ValueError, match='has 7 samples, but the protocol of second has 8'):
        make_runner(sets, tmp_path, {'first': 9, 'second': 8}).test()
    assert list(result(tmp_path)['sets']) == ['first']
    make_runner(sets, tmp_path, {'first': 9, 'second': 7}).test()
    assert evaluated == ['first', 'second']


def test_without_any_set(tmp_path):
    with pytest.raises(
        MissingImages, match=r'(?s)None of the 2 sets of tiny is present:.*a: .*Draw a\..*b: .*Draw b\.'
    ):
        make_runner(tmp_path, tmp_path, {'a': 1, 'b': 1}).test()


def test_prompt_file_that_is_missing_is_no_missing_set(sets, tmp_path):
    runner = make_runner(sets, tmp_path)
    runner._test_dataloader['first']['dataset']['classes'] = 'nothing'
    with pytest.raises(FileNotFoundError, match='no prompt file'):
        runner.test()


def test_tasks_without_partner_are_named(sets, tmp_path):
    runner = make_runner(sets, tmp_path)
    del runner._test_evaluator['second']
    with pytest.raises(ValueError, match=r"dataloaders are of \['first', 'absent', 'second'\], evaluators of"):
        runner.test()


def test_table():
    published = [Published.of(dict(name='A', average=40.0, source='paper', without=['b']), 'abc')]
    table = format_suite('s', list('abc'), {'a': 10.0, 'c': 20.0}, {'b': 'no folder'}, published)
    assert table.splitlines() == [
        's:',
        '  a                   10.00',
        '  c                   20.00',
        '  average of 2 of 3   15.00',
        '  not present: b',
        '  published averages, and ours over those of their sets that ran:',
        '  A   40.00   ours  15.00 (2 of 2)   paper',
    ]
    with pytest.raises(ValueError, match=r"published 'A' is without \['z'\]"):
        Published.of(dict(name='A', average=40.0, source='paper', without=['z']), 'abc')


@pytest.mark.parametrize(('name', 'count'), [('suite_slip26', 26), ('suite_icinw20', 20)])
def test_suites_of_the_papers(name, count):
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    assert cfg.test_dataloader.keys() == cfg.test_evaluator.keys()
    assert len(cfg.test_dataloader) == count
    for row in cfg.test_cfg.get('published', ()):
        assert len(Published.of(row, cfg.test_dataloader).sets) in (25, 26)
    assert not {'Config', '_task', '_files'} & set(cfg)
    # Only what a Runner reads and what the sets share.
    scores = [metric.metric for metric in cfg.test_evaluator.values()]
    per_class = {key for key, metric in cfg.test_evaluator.items() if metric.metric == 'mean_per_class'}
    assert per_class == {'aircraft', 'pets', 'caltech101', 'flowers'}
    assert cfg.test_evaluator.hateful_memes.metric == 'roc_auc'
    assert scores.count('top1') == count - 6


def test_two_processes_give_the_metrics_of_one(sets, tmp_path):
    # Separate processes: this test module cannot be imported by its name in a spawned one.
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for rank in ranks:
        _, errors = rank.communicate(timeout=300)
        assert rank.returncode == 0, errors[-3000:]
    expected = make_runner(sets, tmp_path / 'one').test()
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == [expected, expected]
    of_two, of_one = result(tmp_path / 'two'), result(tmp_path / 'one')
    assert of_two == of_one


def evaluate_as_rank(rank: int, folder: str) -> None:
    os.environ['LOCAL_RANK'] = str(rank)  # The Runner reads it when it wraps the model.
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    metrics = []
    # The second run takes everything from the file.
    for _ in range(2):
        runner = make_runner(
            Path(folder, 'data'),
            Path(folder, 'two'),
            launcher='pytorch',
            cfg=dict(model_wrapper_cfg=wrapper, launcher='pytorch'),
        )
        metrics.append(runner.test())
    Path(folder, f'{rank}.json').write_text(json.dumps(metrics))


if __name__ == '__main__':
    evaluate_as_rank(int(sys.argv[1]), sys.argv[2])
    leave_processes()
