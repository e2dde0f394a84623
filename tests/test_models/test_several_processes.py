"""Two and four gloo processes do what one process does: five steps of training, an epoch of data, an evaluation."""

import hashlib
import io
import json
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import torch.distributed as dist
from datasets_of_images import Greys
from mmengine.config import Config
from mmengine.runner import Runner
from PIL import Image
from ranks import run_ranks
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset

from mmmaskclip.datasets import ImageTextShards
from mmmaskclip.datasets.training.collate import collate_image_text
from mmmaskclip.engine.loops.evaluation_loop import EvaluationLoop
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.objectives import Objective
from mmmaskclip.registry import MODELS

STEPS = 5
BATCH = 8
DATA_BATCH = 2
DATA_SAMPLES = 30  # 15 for each of two processes, 7 for each of four with 2 left over: incomplete batches on both.
COLOURS = ['red', 'green', 'blue', 'grey', 'black', 'white']


def _cases(folder: Path) -> dict[str, tuple[dict, list[dict]]]:
    """Model and batches of each case.

    All objectives, one that starts late, a contrast in chunks of rows, and two without the gathered gradient.
    """
    tiny_models.write_weights(folder)
    table = tiny_models.objectives(folder)
    batches = [tiny_models.full_batch(BATCH, step) for step in range(STEPS)]
    table['regression']['distillation']['weight'] = dict(begin=0.5, end=1.0)
    contrast = table['infonce']['contrast']
    table['late start'] = dict(contrast=contrast, distillation=tiny_models.distillation('cvpr', start_fraction=0.5))
    chunks = dict(type='InfoNCELoss', max_logits=BATCH + 1)
    table['contrast in chunks'] = dict(contrast=dict(type='ImageTextContrast', loss=chunks))
    cases = {name: (tiny_models.model(chosen), batches) for name, chosen in table.items()}
    alone = dict(
        contrast=dict(**contrast, gather_with_grad=False),
        simclr=dict(**table['image contrast']['simclr'], gather_with_grad=False),
    )
    return cases | {'without gathered gradient': (tiny_models.model(alone), batches[:1])}


def _share(batch: dict, rank: int, world_size: int) -> dict:
    """The samples of a rank as its loader gives them: captions end with the longest of these."""
    size = BATCH // world_size
    own = {name: value[rank * size : (rank + 1) * size] for name, value in batch.items()}
    longest = int(own['tokens'].argmax(dim=1).max()) + 1
    return own | dict(tokens=own['tokens'][:, :longest])


def _train(cfg: dict, batches: list[dict], wrap=lambda model: model) -> dict:
    """Losses of all steps, gradients of the first, and everything that the model holds after the last."""
    torch.manual_seed(1)
    model = MODELS.build(cfg)
    model.init_weights()
    wrapped = wrap(model)
    # Plain steps: Adam's would turn the rounding of a gradient near zero into one of full size.
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    losses, grads = [], {}
    for step, batch in enumerate(batches):
        model.set_progress(step / len(batches))
        found = wrapped(mode='loss', **model.data_preprocessor(batch))
        sum(found.values()).backward()
        losses.append({name: value.detach().clone() for name, value in found.items()})
        if not grads:
            grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        optimizer.zero_grad()
        model.after_optimizer_step()
    return dict(losses=losses, grads=grads, start=start, end=model.state_dict())


def _same_on_all_ranks(state: dict) -> dict[str, bool]:
    """Which tensors have the same bits on every rank."""
    own = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.items()}
    by_rank: list = [None] * dist.get_world_size()
    dist.all_gather_object(by_rank, own)
    return {name: all(other[name] == digest for other in by_rank) for name, digest in own.items()}


def _train_as_one_of_several(folder: Path) -> None:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    results = {}
    for name, (cfg, batches) in torch.load(folder / 'cases.pt', weights_only=False).items():
        own = [_share(batch, rank, world_size) for batch in batches]
        # Before its late start an objective uses none of its parameters.
        wrap = partial(DistributedDataParallel, find_unused_parameters=name == 'late start')
        results[name] = _train(cfg, own, partial(wrap, gradient_as_bucket_view=name != 'late start'))
        mean = torch.stack([value for losses in results[name]['losses'] for value in losses.values()]) / world_size
        dist.all_reduce(mean)
        values = iter(mean)
        results[name]['losses'] = [{key: next(values) for key in losses} for losses in results[name]['losses']]
        results[name]['same'] = _same_on_all_ranks(results[name]['end'])
    if rank == 0:
        torch.save(results, folder / f'training_{world_size}.pt')


class Numbers(Dataset):
    def __len__(self):
        return DATA_SAMPLES

    def __getitem__(self, index):
        return {'key': f'{index:05d}'}


def _write_shards(folder: Path) -> None:
    folder.mkdir()
    for shard, numbers in enumerate((range(7), range(7, 18), range(18, DATA_SAMPLES))):
        with tarfile.open(folder / f'{shard}.tar', 'w') as tar:
            for number in numbers:
                picture = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(picture, 'PNG')
                for extension, data in (('png', picture.getvalue()), ('txt', b'a caption')):
                    member = tarfile.TarInfo(f'{number:05d}.{extension}')
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _read_epoch(dataset: Dataset, sampler: dict | None, workers: int) -> list[list[str]]:
    """Sample names of the second epoch, by rank."""
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=DATA_BATCH,
            sampler=sampler,
            num_workers=workers,
            collate_fn=collate_image_text,
            drop_last=True,
        )
    )
    order = loader.dataset if sampler is None else loader.sampler
    order.begin_epoch(epoch=1, seed=3, batch_size=DATA_BATCH)
    own = [key.split('/')[-1] for batch in loader for key in batch['key']]
    assert len(own) == DATA_BATCH * len(loader)
    by_rank: list = [None] * dist.get_world_size()
    dist.all_gather_object(by_rank, own)
    return by_rank


def _read_as_one_of_several(folder: Path) -> None:
    views = {'image': [{'type': 'torchvision/Resize', 'size': 8}]}
    seen = {}
    for workers in (0, 2):
        shards = ImageTextShards(str(folder / 'shards' / '*.tar'), views=views, shuffle_buffer=5)
        seen[f'shards {workers}'] = _read_epoch(shards, None, workers)
        seen[f'map-style {workers}'] = _read_epoch(Numbers(), dict(type='ResumableSampler'), workers)
    if dist.get_rank() == 0:
        (folder / f'data_{dist.get_world_size()}.json').write_text(json.dumps(seen))


def _evaluate(model_cfg: dict, work_dir: Path, launcher: str = 'none') -> dict[str, float]:
    def test(num_samples, field):
        return dict(
            dataset=Greys(num_samples, field),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=collate_image_text,
        )

    def train(field):
        return dict(dataset=Greys(15, field, seed=1), batch_size=4)

    cfg = Config(dict(launcher=launcher))
    if launcher != 'none':
        cfg.model_wrapper_cfg = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
    names = dict(classes=COLOURS, templates=['a {}'])
    linear = dict(num_classes=6, steps=4, batch_size=64)
    return Runner(
        model=model_cfg,
        work_dir=str(work_dir),
        experiment_name=work_dir.name,
        default_scope='mmmaskclip',
        launcher=launcher,
        randomness=dict(seed=0),
        log_level='ERROR',
        val_dataloader=dict(
            classification=test(11, 'label'),
            retrieval=test(7, 'tokens'),
            segmentation=test(5, 'mask'),
            knn=test(7, 'label'),
            linear=test(5, 'mask'),
        ),
        val_evaluator=dict(
            classification=dict(type='ZeroShotClassification', **names),
            retrieval=dict(type='RetrievalRecall', topk=(1, 3)),
            segmentation=dict(type='ZeroShotSegmentation', **names),
            knn=dict(type='KNNClassification', train_dataloader=train('label'), k=4),
            linear=dict(type='LinearSegmentationProbe', train_dataloader=train('mask'), **linear),
        ),
        val_cfg=dict(type=EvaluationLoop),
        cfg=cfg,
    ).val()


def _evaluate_as_one_of_several(folder: Path) -> None:
    model_cfg = json.loads((folder / 'model.json').read_text())
    metrics = _evaluate(model_cfg, folder / f'work_{dist.get_world_size()}', 'pytorch')
    (folder / f'metrics_{dist.get_world_size()}_{dist.get_rank()}.json').write_text(json.dumps(metrics))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Where the processes find what to do."""
    folder = tmp_path_factory.mktemp('several_processes')
    register_all_modules(init_default_scope=False)
    torch.save(_cases(folder), folder / 'cases.pt')
    cfg = tiny_models.model()
    cfg['text_encoder']['vocab_size'] = 49408
    (folder / 'model.json').write_text(json.dumps(cfg))
    _write_shards(folder / 'shards')
    return folder


@pytest.fixture(scope='module')
def one(folder):
    """Training results of one process by case."""
    return {name: _train(*case) for name, case in torch.load(folder / 'cases.pt', weights_only=False).items()}


@pytest.fixture(scope='module')
def finished(folder):
    """Two processes have run, and then four."""
    for count in (2, 4):
        run_ranks(_run_as_one_of_several, folder, world_size=count)


@pytest.fixture(scope='module', params=[2, 4])
def world_size(finished, request):
    """Number of processes whose results a test looks at."""
    return request.param


@pytest.fixture(scope='module')
def several(folder, world_size):
    """Training results of several processes by case."""
    return torch.load(folder / f'training_{world_size}.pt')


CASES = [*tiny_models.OBJECTIVES, 'late start', 'contrast in chunks']


def _types(node) -> set:
    if isinstance(node, dict):
        return {node.get('type')}.union(*map(_types, node.values()))
    return set().union(*map(_types, node)) if isinstance(node, (list, tuple)) else set()


def test_no_objective_and_no_loss_is_forgotten(folder):
    cases = torch.load(folder / 'cases.pt', weights_only=False)
    assert list(cases)[:-1] == CASES
    # InfoNCE and NT-Xent are the defaults of what they are the loss of.
    used = _types([cfg for cfg, _ in cases.values()]) | {'InfoNCELoss', 'NTXentLoss'}
    parts = {
        name
        for name, cls in MODELS.module_dict.items()
        if issubclass(cls, Objective) or cls.__module__.startswith('mmmaskclip.models.losses.')
        if cls.__module__.startswith('mmmaskclip.')
    }
    assert len(parts) > 10
    assert parts <= used


def _assert_equal(found: dict, expected: dict, what: str) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # Of the size of the whole tensor, because sums over ranks round differently where terms cancel.
        bound = 1e-4 * float(value.abs().max()) + 1e-7
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=bound, msg=lambda m, n=name: f'{what} of {n}: {m}'
        )


@pytest.mark.parametrize('case', CASES)
def test_five_steps_equal_those_of_one_process_with_the_whole_batch(one, several, case):
    expected, found = one[case], several[case]
    for step, (own, reference) in enumerate(zip(found['losses'], expected['losses'], strict=True)):
        _assert_equal(own, reference, f'step {step}, loss')
    _assert_equal(found['grads'], expected['grads'], 'gradient')
    _assert_equal(found['end'], expected['end'], 'final value')


@pytest.mark.parametrize('case', CASES)
def test_the_steps_are_large_enough_to_tell(one, case):
    start, end = one[case]['start'], one[case]['end']
    trained = one[case]['grads']
    moved = [float((end[name] - start[name]).abs().max() / end[name].abs().max().clamp(min=1e-3)) for name in trained]
    assert max(moved) > 0.05


@pytest.mark.parametrize('case', CASES)
def test_teacher_centre_and_student_have_the_same_bits_on_all_ranks(several, case):
    assert not [name for name, same in several[case]['same'].items() if not same]
    teachers = [name for name in several[case]['same'] if name.startswith('teacher')]
    assert bool(teachers) == (case in ('regression', 'codewords', 'dense tuning', 'local to global', 'late start'))


def test_an_objective_that_starts_late_leaves_its_parameters_alone_until_then(one, several):
    for result in (one['late start'], several['late start']):
        assert [len(losses) for losses in result['losses']] == [1, 1, 1, 2, 2]
        assert not [name for name in result['grads'] if 'distillation' in name]


def test_without_the_gathered_gradient_losses_are_equal_and_gradients_are_not(one, several):
    expected, found = one['without gathered gradient'], several['without gathered gradient']
    torch.testing.assert_close(found['losses'], expected['losses'])
    for weight in ('image_projection.projection.weight', 'objectives.simclr.head.fc0.weight'):
        assert not torch.allclose(found['grads'][weight], expected['grads'][weight], rtol=1e-2)


@pytest.mark.parametrize('dataset', ['shards 0', 'shards 2', 'map-style 0', 'map-style 2'])
def test_an_epoch_sees_every_sample_at_most_once_and_leaves_out_only_what_fills_no_batch(folder, world_size, dataset):
    by_rank = json.loads((folder / f'data_{world_size}.json').read_text())[dataset]
    seen = [key for keys in by_rank for key in keys]
    assert len(seen) == len(set(seen))
    batches = DATA_SAMPLES // world_size // DATA_BATCH
    assert [len(keys) for keys in by_rank] == [batches * DATA_BATCH] * world_size
    assert set(seen) <= {f'{number:05d}' for number in range(DATA_SAMPLES)}


def test_evaluation_equals_that_of_one_process(folder, world_size):
    expected = _evaluate(json.loads((folder / 'model.json').read_text()), folder / f'one_{world_size}')
    assert {name.split('/')[0] for name in expected} == {
        'classification', 'retrieval', 'segmentation', 'knn', 'linear'
    }  # fmt: skip
    for rank in range(world_size):
        found = json.loads((folder / f'metrics_{world_size}_{rank}.json').read_text())
        assert found == pytest.approx(expected)


def _run_as_one_of_several(folder: Path) -> None:
    dist.init_process_group('gloo')
    _train_as_one_of_several(folder)
    _read_as_one_of_several(folder)
    _evaluate_as_one_of_several(folder)
