"""A suite on tiny folders of images: what is missing, what is done already, two processes."""

import json
from pathlib import Path

import pytest
import torch
from datasets_of_images import ORDERED, Greys
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image
from ranks import run_ranks
from torch.nn import functional as F
from torch.utils.data import Dataset

from mmmaskclip.apis import ImageTextInferencer
from mmmaskclip.cli.other_model import use_model
from mmmaskclip.cli.test import evaluate
from mmmaskclip.datasets.evaluation.labelled_images import MissingImages
from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.engine.loops.suite_loop import SuiteLoop
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.evaluation import ZeroShotClassification
from mmmaskclip.registry import MODELS

CLASSES = ['ant', 'bee', 'cow']


class TinyModel(BaseModel):
    """Embeds an image as its mean colour, and a text as the sum of random vectors of its tokens."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(49408, 3)
        torch.nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))

    tokenize = staticmethod(tokenize)

    def encode_text(self, tokens):
        return F.normalize((self.words(tokens.long()) * (tokens != 0).unsqueeze(-1)).sum(1), dim=-1)

    def forward(self, image, label, key, mode='tensor', **_):
        embeds = F.normalize(image.float().mean((2, 3)) - 128, dim=-1)
        return [{'key': k, 'image_embed': x, 'label': y} for k, x, y in zip(key, embeds, label, strict=True)]


class Recorder(Hook):
    """Keeps what each validation found."""

    def __init__(self):
        self.found = []

    def after_val_epoch(self, runner, metrics=None):
        self.found.append(metrics)


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
    metric = dict(type='ZeroShotClassification', classes=CLASSES, templates=templates)
    return dict(dataset=dataset, batch_size=2, **ORDERED), metric


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
    assert f'theirs (a paper) 50.00 {scores[0]:.2f} 1 of 2'.split() in [line.split() for line in text.splitlines()]


def test_equals_each_set_alone(sets, tmp_path):
    both = make_runner(sets, tmp_path / 'both').test()
    for name in ('first', 'second'):
        alone = make_runner(sets, tmp_path / name, {name: SETS[name]}).test()
        del alone['tiny/average']
        assert alone == {key: value for key, value in both.items() if key.startswith(name)}


def test_only_what_changed_is_evaluated_again(sets, tmp_path, evaluated):
    expected = make_runner(sets, tmp_path).test()
    assert evaluated == ['first', 'second']
    again = make_runner(sets, tmp_path)
    assert again.test() == expected
    assert evaluated == ['first', 'second']
    assert 'first (1 of 3) is done already' in log(again)

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


def test_results_outlive_their_images(sets, tmp_path, evaluated):
    before = make_runner(sets, tmp_path).test()
    done = result(tmp_path)
    evaluated.clear()
    (sets / 'first').rename(tmp_path / 'gone')
    again = make_runner(sets, tmp_path)
    assert again.test() == before
    assert (result(tmp_path), evaluated) == (done, [])
    assert 'first (1 of 3) was done earlier, its images are gone' in log(again)

    # Under other templates it is missing; what was found under the old ones stays in the file.
    scores = make_runner(sets, tmp_path, templates=('the {}',)).test()
    assert scores['tiny/average'] == scores['second/score']
    found = result(tmp_path)
    assert found['sets']['first'] == done['sets']['first']
    assert (found['missing'], found['average']) == (['first', 'absent'], scores['tiny/average'])


def test_weights_that_a_hook_swaps_in_are_those_of_the_result(sets, tmp_path, evaluated):
    class Swap(Hook):
        def __init__(self, seed):
            self.seed, self.swaps = seed, []

        def before_test_epoch(self, runner):
            weight = runner.model.words.weight
            self.swaps.append(weight.data.clone())
            torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(self.seed))

        def after_test_epoch(self, runner, metrics=None):
            runner.model.words.weight.data.copy_(self.swaps[-1])

    found = {}
    for seed in (1, 2):
        swap = Swap(seed)
        found[seed] = make_runner(sets, tmp_path / 'work', custom_hooks=[swap]).test()
        assert len(swap.swaps) == 1
    assert evaluated == ['first', 'second'] * 2
    assert len(list((tmp_path / 'work').glob('tiny_*.json'))) == 2
    assert found[2] == make_runner(sets, tmp_path / 'alone', custom_hooks=[Swap(2)]).test()


def test_suite_of_a_probe(sets, tmp_path, evaluated, tiny_model_cfg):
    register_all_modules()
    model = MODELS.build(tiny_model_cfg())
    metrics = []
    for _ in range(2):
        runner = make_runner(sets, tmp_path / 'work', {'first': 9}, model=model)
        dataset = runner._test_dataloader['first']['dataset']
        dataset['transforms'] = [dict(type='torchvision/Resize', size=32)]
        train = dict(dataset=dataset, batch_size=3)
        runner._test_evaluator['first'] = dict(type='LogisticRegressionProbe', train_dataloader=train, shots=1)
        metrics.append(runner.test())
    assert evaluated == ['first']
    assert metrics[0] == metrics[1]
    fingerprint = result(tmp_path / 'work')['sets']['first']['fingerprint']
    assert 'templates' not in fingerprint
    assert fingerprint['num_samples'] == 9
    assert 0 <= metrics[0]['first/score'] <= 100


class Pairs(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = torch.full((3, 32, 32), 50 * index, dtype=torch.uint8)
        return {'image': image, 'tokens': torch.tensor([49406, index + 1, 49407]), 'key': str(index)}


@pytest.mark.parametrize('tasks', ['probes', 'suite'])
def test_validates_while_training(tasks, sets, tmp_path, tiny_model_cfg):
    register_all_modules()
    if tasks == 'suite':
        loader, metric = task(sets, 'first', 9, ('a {}',))
        loader['dataset']['transforms'] = [dict(type='torchvision/Resize', size=32)]
        validation = dict(
            val_dataloader={'first': loader},
            val_evaluator={'first': metric},
            val_cfg=dict(type=SuiteLoop, suite='tiny'),
        )
        expected = {'tiny/average', 'first/score', 'first/top1'}
    else:
        train, test = (
            {field: dict(dataset=Greys(4, field), batch_size=size, **order) for field in ('label', 'mask')}
            for size, order in ((2, {}), (3, ORDERED))
        )
        segmentation = dict(type='LinearSegmentationProbe', train_dataloader=train['mask'], num_classes=6, steps=2)
        knn = dict(type='KNNClassification', train_dataloader=train['label'], k=2)
        validation = dict(
            val_dataloader=dict(knn=test['label'], linear=test['mask']),
            val_evaluator=dict(knn=knn, linear=segmentation),
            val_cfg=dict(type='EvaluationLoop'),
        )
        expected = {'knn/top1', 'linear/mIoU'}
    model = tiny_model_cfg()
    model['text_encoder']['vocab_size'] = 49408
    runner = Runner(
        model=model,
        work_dir=str(tmp_path / 'work'),
        experiment_name=f'{tmp_path.name}_{tasks}',
        default_scope='mmmaskclip',
        train_dataloader=dict(dataset=Pairs(), batch_size=2, **ORDERED),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=2, val_interval=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[Recorder()],
        **validation,
    )
    runner.train()
    assert runner.model.training
    first, second = next(hook.found for hook in runner.hooks if isinstance(hook, Recorder))
    assert expected <= set(first)
    assert first.keys() == second.keys()
    # Each has the weights of its iteration.
    assert len(list((tmp_path / 'work').glob('tiny_*.json'))) == (2 if tasks == 'suite' else 0)


def test_from_python_as_in_the_suite(sets, tmp_path, tiny_model_cfg):
    register_all_modules()
    torch.manual_seed(3)
    model_cfg = tiny_model_cfg()
    model_cfg['text_encoder']['vocab_size'] = 49408
    clip = ImageTextInferencer(MODELS.build(model_cfg), device='cpu')
    torch.save(clip.model.state_dict(), tmp_path / 'weights.pth')

    loader, metric = task(sets, 'first', 9, ('a {}',))
    loader['dataset']['transforms'] = [dict(type='torchvision/Resize', size=8)]
    (tmp_path / 'model.py').write_text(f'model = {model_cfg!r}')
    tests = dict(test_dataloader=dict(first=loader), test_evaluator=dict(first=metric), default_scope='mmmaskclip')
    cfg = Config({**tests, 'test_cfg': dict(type='EvaluationLoop')})
    cfg.test_dataloader.first.collate_fn = dict(type='mmmaskclip.collate_image_text')
    use_model(cfg, str(tmp_path / 'model.py'))
    cfg.work_dir, cfg.launcher = str(tmp_path / 'work'), 'none'
    expected = evaluate(cfg, str(tmp_path / 'weights.pth'))

    metric = ZeroShotClassification(CLASSES, ['a {}'], prefix='first')
    metric.prepare(clip.model)
    for label, name in enumerate(CLASSES):
        paths = sorted((sets / 'first' / name).iterdir())
        samples = zip(clip.embed_images(paths), [label] * len(paths), map(str, paths), strict=True)
        metric.process(None, [dict(image_embed=embed, label=label, key=key) for embed, label, key in samples])
    assert metric.evaluate(size=9) == expected
    assert 0 < expected['first/score'] < 100


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


def test_two_processes_give_the_metrics_of_one(sets, tmp_path):
    run_ranks(evaluate_as_one_of_two, tmp_path)
    expected = make_runner(sets, tmp_path / 'one').test()
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == [expected, expected]
    of_two, of_one = result(tmp_path / 'two'), result(tmp_path / 'one')
    assert of_two == of_one


def evaluate_as_one_of_two(folder: Path) -> None:
    torch.distributed.init_process_group('gloo')
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    metrics = []
    # The second run takes everything from the file.
    for _ in range(2):
        runner = make_runner(
            folder / 'data',
            folder / 'two',
            launcher='pytorch',
            cfg=dict(model_wrapper_cfg=wrapper, launcher='pytorch'),
        )
        metrics.append(runner.test())
    (folder / f'{torch.distributed.get_rank()}.json').write_text(json.dumps(metrics))
