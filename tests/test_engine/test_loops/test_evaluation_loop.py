"""The evaluation loop in mmengine's Runner, on one process and on two."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from ranks import run_ranks
from torch.nn import functional as F

from mmmaskclip.datasets.evaluation.labelled_images import MissingImages
from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.datasets.transforms.tokenize import tokenize
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.evaluation import RetrievalRecall, ZeroShotClassification, ZeroShotSegmentation
from mmmaskclip.startup.processes import leave_processes

CLASSES = [f'class {index}' for index in range(6)]


class Tower(torch.nn.Module):
    """Stands for an image tower without padding."""

    def unpadded_fraction(self, size):
        return 1.0, 1.0


class TinyModel(BaseModel):
    """Embeds an image as its values, and a text as random vectors of its tokens."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(49408, 12)
        torch.nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))
        self.image_encoder = Tower()
        self.grad_enabled = []

    def encode_dense(self, images, read_out):
        return F.normalize(images, dim=1)

    tokenize = staticmethod(tokenize)

    def encode_text(self, tokens):
        return F.normalize((self.words(tokens.long()) * (tokens != 0).unsqueeze(-1)).sum(1), dim=-1)

    def forward(
        self, image, tokens=None, num_captions=None, label=None, mask=None, key=None, caption_ends=None, mode='tensor'
    ):
        assert mode == 'predict'
        assert not self.training
        self.grad_enabled.append(torch.is_grad_enabled())
        outputs = [
            {'key': k, 'image_embed': F.normalize(x.mean((1, 2)), dim=0)} for k, x in zip(key, image, strict=True)
        ]
        if tokens is not None:
            for output, embeds in zip(outputs, self.encode_text(tokens).split(num_captions.tolist()), strict=True):
                output['text_embeds'] = embeds
        for index, output in enumerate(outputs):
            if label is not None:
                output['label'] = label[index]
        return outputs


class Samples(torch.utils.data.Dataset):
    """Random samples; which fields they have is what the metrics need."""

    def __init__(self, num_samples, *fields):
        self.num_samples, self.fields = num_samples, fields

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        sample = {'image': torch.randn(12, 2, 2, generator=generator), 'key': f'{index}'}
        if 'tokens' in self.fields:
            count = 1 + index % 3
            sample['tokens'] = [torch.randint(9, (4,), generator=generator, dtype=torch.int32) for _ in range(count)]
        if 'label' in self.fields:
            sample['label'] = index % 6
        if 'mask' in self.fields:
            sample['mask'] = torch.randint(6, (5, 7), generator=generator).to(torch.uint8)
        return sample


def loader(num_samples, *fields):
    return dict(
        dataset=Samples(num_samples, *fields),
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        collate_fn=collate_image_text,
    )


def make_runner(work_dir, mode='val', hooks=(), **changes):
    tasks = dict(
        dataloader=dict(retrieval=loader(7, 'tokens'), classification=loader(11, 'label'), dense=loader(5, 'mask')),
        evaluator=dict(
            retrieval=RetrievalRecall(topk=(1, 3)),
            classification=dict(type='mmmaskclip.ZeroShotClassification', classes=CLASSES, templates=['a {}']),
            dense=[
                dict(type='mmmaskclip.ZeroShotSegmentation', classes=CLASSES, templates=['a {}'], prefix='segmentation')
            ],
        ),
        cfg=dict(type=EvaluationLoop),
    )
    tasks.update(changes.pop('tasks', {}))
    return Runner(
        model=changes.pop('model', None) or TinyModel(),
        work_dir=str(work_dir),
        experiment_name=f'{Path(work_dir).name}_{mode}',
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=list(hooks),
        log_level='INFO',
        **{f'{mode}_{name}': value for name, value in tasks.items()},
        **changes,
    )


class Recorder(Hook):
    def __init__(self):
        self.calls = []

    def _note(self, name):
        return lambda runner, **given: self.calls.append((name, given))

    def __getattribute__(self, name):
        if name.startswith(('before_', 'after_')) and name.split('_')[1] in ('val', 'test'):
            return self._note(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_all_tasks_with_the_hooks_of_their_mode(tmp_path, mode):
    recorder = Recorder()
    runner = make_runner(tmp_path, mode, [recorder])
    metrics = getattr(runner, mode)()
    assert {name.split('/')[0] for name in metrics} == {'retrieval', 'classification', 'segmentation'}
    assert 'retrieval/image_to_text_R@3' in metrics
    assert set(runner.model.grad_enabled) == {False}

    names = [name for name, _ in recorder.calls]
    batches = 4 + 6 + 3
    assert len(getattr(runner, f'{mode}_dataloader')) == batches
    iters = [f'before_{mode}_iter', f'after_{mode}_iter'] * batches
    assert names == [f'before_{mode}', f'before_{mode}_epoch', *iters, f'after_{mode}_epoch', f'after_{mode}']
    after = [given for name, given in recorder.calls if name == f'after_{mode}_iter']
    assert [given['batch_idx'] for given in after] == list(range(batches))
    # Segmentation reads patches itself.
    assert all(len(given['outputs']) in (0, len(given['data_batch']['key'])) for given in after)
    assert recorder.calls[-2][1]['metrics'] == metrics


def test_equals_metrics_computed_without_the_loop(tmp_path):
    metrics = make_runner(tmp_path).val()
    model = TinyModel().eval()
    expected = {}
    for metric, data in (
        (RetrievalRecall(topk=(1, 3)), Samples(7, 'tokens')),
        (ZeroShotClassification(CLASSES, ['a {}']), Samples(11, 'label')),
        (ZeroShotSegmentation(CLASSES, ['a {}']), Samples(5, 'mask')),
    ):
        if hasattr(metric, 'prepare'):
            metric.prepare(model)
        batch = collate_image_text([data[index] for index in range(len(data))])
        with torch.no_grad():
            metric.process(batch, model(**batch, mode='predict') if 'mask' not in batch else [])
        expected.update(metric.evaluate(len(data)))
    assert metrics == pytest.approx(expected)


def test_log_shows_task_progress_and_remaining_time(tmp_path):
    runner = make_runner(tmp_path)
    runner.val()
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert 'Evaluating classification (2 of 3): 11 samples, 6 batches' in log
    assert '[13/13]    eta: 0:00:00' in log
    assert 'classification/top1' in log


def test_missing_sets_are_left_out_where_that_is_allowed(tmp_path):
    zoo = {**loader(1), 'dataset': absent(tmp_path / 'no')}
    metric = dict(type='mmmaskclip.ZeroShotClassification', classes=['a'], templates=['a {}'])
    register_all_modules()
    for number, skip in enumerate((True, False)):
        loop = dict(type=EvaluationLoop, skip_missing=skip)
        tasks = dict(
            dataloader=dict(zoo=zoo, retrieval=loader(7, 'tokens')),
            evaluator=dict(zoo=metric, retrieval=RetrievalRecall()),
            cfg=loop,
        )
        runner = make_runner(tmp_path / str(number), tasks=tasks)
        if skip:
            assert {name.split('/')[0] for name in runner.val()} == {'retrieval'}
            log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
            assert 'Not evaluated: zoo. There is no folder' in log
        else:
            with pytest.raises(MissingImages):
                runner.val()
    nothing = dict(
        dataloader=dict(zoo=zoo), evaluator=dict(zoo=metric), cfg=dict(type=EvaluationLoop, skip_missing=True)
    )
    recorder = Recorder()
    assert make_runner(tmp_path / 'nothing', hooks=[recorder], tasks=nothing).val() == {}
    assert recorder.calls == []


class Captions(Samples):
    """Images of which the captions are known without decoding them."""

    def row(self, index):
        return f'{index}.jpg', ['a caption'] * (1 + index % 3)


def probe(kind, train=4, **options):
    return dict(
        type=f'mmmaskclip.{kind}', train_dataloader=dict(dataset=Samples(train, 'label'), batch_size=2), **options
    )


def absent(folder):
    return dict(
        type='mmmaskclip.LabelledImages', source={}, folder=str(folder), classes=['a'], transforms=[], num_classes=1
    )


@pytest.mark.parametrize(
    ('metric', 'message'),
    [
        (
            dict(type='mmmaskclip.RetrievalRecall', num_images=1000),
            '7 images are in the data set, the protocol has 1000',
        ),
        (dict(type='mmmaskclip.RetrievalRecall', captions_per_image=2), "'0.jpg' has 1 captions, the protocol takes"),
        (dict(type='mmmaskclip.ZeroShotClassification', classes=['a'], templates=['a {}']), 'data set has 6 classes'),
        (dict(type='mmmaskclip.ZeroShotSegmentation', classes=['a'], templates=['a {}']), 'data set has 6 classes'),
        (dict(type='mmmaskclip.RegionAccuracy', classes=['a'], templates=['a {}']), 'the data set has the classes'),
        (probe('KNNClassification'), 'k=20 neighbours of 4 training samples'),
        (probe('LinearSegmentationProbe', num_classes=11), 'num_classes=11, but the data set has 6 classes: class 0'),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else '',
)
def test_a_metric_that_does_not_fit_its_data_is_named_before_anything_is_encoded(tmp_path, metric, message):
    register_all_modules()
    data = {**loader(1), 'dataset': Captions(7)}
    data['dataset'].metainfo = dict(classes=CLASSES)
    # Behind another task, which would be evaluated first.
    tasks = dict(
        dataloader=dict(first=loader(3, 'tokens'), second=data),
        evaluator=dict(first=RetrievalRecall((1,)), second=metric),
    )
    runner = make_runner(tmp_path, tasks=tasks)
    with pytest.raises(ValueError, match=message):
        _ = runner.val_loop  # as at the beginning of a training
    assert runner.model.grad_enabled == []


@pytest.mark.parametrize('kind', ['KNNClassification', 'LinearClassificationProbe', 'LinearSegmentationProbe'])
def test_training_images_of_a_probe_are_missed_before_anything_is_encoded(tmp_path, kind):
    register_all_modules()
    options = dict(num_classes=1) if kind == 'LinearSegmentationProbe' else {}
    metric = probe(kind, **options)
    metric['train_dataloader']['dataset'] = absent(tmp_path / 'no')
    tasks = dict(dataloader=dict(a=loader(3)), evaluator=dict(a=metric))
    with pytest.raises(MissingImages):
        _ = make_runner(tmp_path / 'a', tasks=tasks).val_loop
    tasks['cfg'] = dict(type=EvaluationLoop, skip_missing=True)
    assert make_runner(tmp_path / 'b', tasks=tasks).val() == {}


def test_a_k_that_says_nothing_is_announced(tmp_path):
    tasks = dict(dataloader=dict(a=loader(7, 'tokens')), evaluator=dict(a=RetrievalRecall()))
    runner = make_runner(tmp_path, tasks=tasks)
    assert runner.val()['retrieval/text_to_image_R@10'] == 100
    log = Path(runner.log_dir, f'{runner.timestamp}.log').read_text()
    assert log.index('Retrieval among 7 images: R@10 from captions to images is 100 %') < log.index('Evaluating a')


def test_slower_processes_are_waited_for_on_the_store_before_results_are_collected(tmp_path, monkeypatch):
    calls = []

    @contextmanager
    def together(what):
        yield
        calls.append(what)

    evaluate = Evaluator.evaluate
    monkeypatch.setattr('mmmaskclip.engine.loops.evaluation_loop.together', together)
    monkeypatch.setattr(Evaluator, 'evaluate', lambda self, size: (calls.append(size), evaluate(self, size))[1])
    make_runner(tmp_path).val()
    assert calls == ['evaluating retrieval', 7, 'evaluating classification', 11, 'evaluating dense', 5]


def test_training_mode_is_given_back(tmp_path):
    runner = make_runner(tmp_path)
    runner.model.train()
    runner.val()
    assert runner.model.training
    runner.model.eval()
    runner.val()
    assert not runner.model.training


def test_one_plain_task_as_mmengine_has_it(tmp_path):
    runner = make_runner(tmp_path, tasks=dict(dataloader=loader(7, 'tokens'), evaluator=[RetrievalRecall()]))
    assert 'retrieval/text_to_image_R@5' in runner.val()


def test_metric_of_a_task_gets_the_datasets_metainfo(tmp_path):
    class Names(BaseMetric):
        default_prefix = 'names'

        def process(self, data_batch, data_samples):
            self.results.extend(data_samples)

        def compute_metrics(self, results):
            return {'count': len(self.dataset_meta['classes'])}

    data = loader(3)
    data['dataset'].metainfo = dict(classes=('a', 'b'))
    runner = make_runner(tmp_path, tasks=dict(dataloader=dict(a=data), evaluator=dict(a=Names())))
    assert runner.val() == {'names/count': 2}


@pytest.mark.parametrize('needs', [[False], [False, True]])
def test_predictions_are_made_only_for_metrics_that_use_them(tmp_path, needs):
    class Counts(BaseMetric):
        def __init__(self, needs_predictions):
            super().__init__(prefix=f'needs_{needs_predictions}')
            self.needs_predictions = needs_predictions

        def process(self, data_batch, data_samples):
            self.results.append((len(data_batch['key']), len(data_samples)))

        def compute_metrics(self, results):
            return dict(zip(('images', 'predictions'), map(sum, zip(*results, strict=True)), strict=True))

    metrics = [Counts(needed) for needed in needs]
    runner = make_runner(tmp_path, tasks=dict(dataloader=dict(a=loader(3)), evaluator=dict(a=metrics)))
    found = runner.val()
    assert found['needs_False/images'] == 3
    assert found['needs_False/predictions'] == (3 if any(needs) else 0)
    assert len(runner.model.grad_enabled) == (2 if any(needs) else 0)


def test_tasks_without_partner_are_named(tmp_path):
    runner = make_runner(tmp_path, tasks=dict(evaluator=dict(retrieval=RetrievalRecall())))
    with pytest.raises(ValueError, match="evaluator: there is none for the task 'classification'.*'dense'"):
        runner.val()


def test_two_processes_give_the_metrics_of_one(tmp_path):
    run_ranks(evaluate_as_one_of_two, tmp_path)
    expected = make_runner(tmp_path / 'one').val()
    for rank in range(2):
        assert json.loads((tmp_path / f'{rank}.json').read_text()) == expected


def evaluate_as_one_of_two(folder: Path) -> None:
    torch.distributed.init_process_group('gloo')
    _evaluate(folder)
    leave_processes()
    # A thread of gloo that outlives the group can abort the process at its end.
    assert not [name for name in Path('/proc/self/task').glob('*/comm') if 'gloo' in name.read_text()]


def _evaluate(folder: Path) -> None:
    runner = make_runner(
        folder / 'two',
        launcher='pytorch',
        cfg=dict(
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False),
            launcher='pytorch',
        ),
    )
    (folder / f'{torch.distributed.get_rank()}.json').write_text(json.dumps(runner.val()))
