"""``mmmaskclip.train``: from a file of OpenCLIP and a folder of pairs to a checkpoint, without a config."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_pairs import COLOURS, write_pairs, write_weights

import mmmaskclip
from mmmaskclip.analysis.memory import GB, StepMemory
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.cli import finetune_recipe
from mmmaskclip.datasets.evaluation.zero_shot_tasks import tasks_where_present
from mmmaskclip.datasets.training.held_out import split_pairs
from mmmaskclip.registry import DATASETS


def rows_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp('finetune')
    write_pairs(folder / 'pairs')
    write_weights(folder / 'clip')
    return folder


@pytest.fixture(scope='module')
def done(place):
    return mmmaskclip.train(
        pairs=place / 'pairs', start_from=place / 'clip', out=place / 'out', epochs=2, zero_shot=None, device='cpu'
    )


def test_trains_evaluates_and_gives_a_model(done, place):
    assert done.checkpoint == str(place / 'out/epoch_2.pth')
    assert 0 <= done.metrics['retrieval/image_to_text_R@1'] <= 100
    assert done.before.keys() == done.metrics.keys()
    cfg = Config.fromfile(done.config)
    assert cfg.load_from == str(place / 'clip/open_clip_model.safetensors')
    # Few pairs: the recipe with the locked image tower, at the model's size, in batches that fill four steps.
    assert (cfg.model.image_encoder.frozen_stages, cfg.train_dataloader.batch_size) == (2, 5)
    assert cfg.train_dataloader.dataset.views.image[0].size == 32
    assert cfg.train_dataloader.dataset.context_length == cfg.val_dataloader.retrieval.dataset.context_length == 20
    assert cfg.model.objectives.contrast.duplicates == ('image', 'caption')
    held_out = [row['image'] for row in rows_of(place / 'out/pairs_held_out.jsonl')]
    trained = [row['image'] for row in rows_of(place / 'out/pairs_train.jsonl')]
    assert (len(held_out), len({*held_out} | {*trained})) == (4, 24)
    before = mmmaskclip.load(place / 'clip', device='cpu').embed_texts(['a red square'])
    assert not torch.allclose(done.load(device='cpu').embed_texts(['a red square']), before)
    logs = ''.join(path.read_text() for path in (place / 'out').glob('*/*.log'))
    assert 'tensors loaded from' in logs
    assert 'Epoch [2/2]' in logs


def test_called_again_gives_the_result(done, place, monkeypatch):
    arguments = dict(pairs=place / 'pairs', start_from=place / 'clip', epochs=2, zero_shot=None, device='cpu')
    monkeypatch.setattr('mmmaskclip.cli.finetune.run', None)
    assert mmmaskclip.train(out=place / 'out', **arguments) == done
    with pytest.raises(ValueError, match=r'other arguments \(epochs=2 there, 3 now\): give another out'):
        mmmaskclip.train(out=place / 'out', **{**arguments, 'epochs': 3})


def test_a_signal_is_said_with_what_to_do(done, place, tmp_path, monkeypatch):
    shutil.copytree(place / 'out', tmp_path / 'out')
    (tmp_path / 'out/result.json').unlink()
    monkeypatch.setattr('mmmaskclip.cli.finetune.run', lambda cfg, note: (None, 3))
    arguments = dict(pairs=place / 'pairs', start_from=place / 'clip', epochs=2, zero_shot=None, device='cpu')
    with pytest.raises(KeyboardInterrupt, match='everything is saved in .* The same call resumes it'):
        mmmaskclip.train(out=tmp_path / 'out', **arguments)


def test_called_again_goes_on_exactly_and_adapters_are_all_that_changes(place, tmp_path):
    arguments = dict(pairs=place / 'pairs', start_from=place / 'clip', epochs=2, lora=2, zero_shot=None, device='cpu')
    whole = mmmaskclip.train(out=tmp_path / 'whole', **arguments)
    # As a run that was killed after its first epoch.
    shutil.copytree(tmp_path / 'whole', tmp_path / 'killed')
    for name in ('result.json', 'last_checkpoint', 'epoch_2.pth', 'epoch_2.pth.sha256'):
        (tmp_path / 'killed' / name).unlink()
    resumed = mmmaskclip.train(out=tmp_path / 'killed', **arguments)
    expected, found = (read_state_dict(run.checkpoint) for run in (whole, resumed))
    assert all(torch.equal(value, found[name]) for name, value in expected.items())
    assert resumed.before == whole.before
    assert any(value.any() for name, value in found.items() if name.endswith('lora_up'))
    start = mmmaskclip.load(place / 'clip', device='cpu').model.state_dict()
    changed = {name for name, value in start.items() if not torch.equal(value, found[name])}
    names = ('image_projection.projection.weight', 'text_projection.projection.weight')
    assert changed == {*names, 'objectives.contrast.logit_scale'}


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(pairs='nowhere'), "neither a file nor a folder 'nowhere'"),
        (dict(start_from='nowhere.pt'), r'nowhere\.pt'),
        (dict(batch_size=1), 'batch_size=1: give at least 2'),
        (dict(lora=0), 'lora=0: give at least 1'),
        (dict(lr=-1.0), r'lr=-1\.0: give a positive'),
        (dict(zero_shot='cifar11'), "no zero-shot set 'cifar11'"),
    ],
)
def test_errors_name_the_thing(place, tmp_path, changes, message):
    arguments = dict(pairs=place / 'pairs', start_from=place / 'clip', out=tmp_path / 'out', device='cpu')
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        mmmaskclip.train(**{**arguments, **changes})


def test_recipe_depends_on_the_number_of_pairs(place):
    model, _, _ = mmmaskclip.models.from_pretrained.pretrained_config(place / 'clip')
    found = {}
    for pairs in (1000, 100_000, 3_000_000):
        training = dict(type='ImageTextPairs', ann_file='a.jsonl')
        cfg = finetune_recipe.finetune_config(
            model, ('w.pt', 2), training, None, pairs, True, ('cifar10', 'sets'), dict(lr=2e-5, epochs=None)
        )
        frozen = cfg.model.image_encoder.get('frozen_stages')
        found[pairs] = cfg.train_dataloader.batch_size, cfg.train_cfg.max_epochs, frozen
        assert list(cfg.val_dataloader) == ['cifar10']
        assert cfg.val_dataloader.cifar10.dataset.transforms[0]['size'] == 32
        assert cfg.optim_wrapper.optimizer.lr == 2e-5
    assert found == {1000: (64, 20, 2), 100_000: (256, 10, None), 3_000_000: (1024, 5, None)}


def test_batch_is_computed_in_parts_that_fit(monkeypatch):
    # 3 GB, and 100 MB a pair, or 10 MB.
    needed = StepMemory(GB, GB // 2, GB, GB // 2, 10**8, 10**7)
    monkeypatch.setattr(finetune_recipe, 'count_memory', lambda cfg: needed)

    def fitted(memory):
        towers = dict(image_encoder=dict(type='CLIPVisionTransformer'), text_encoder=dict(type='B'))
        cfg = Config(dict(model=towers, train_dataloader=dict(batch_size=64)))
        finetune_recipe.fit_memory(cfg, memory * GB)
        return cfg.model.get('micro_batch_size'), cfg.get('activation_checkpointing')

    assert fitted(80) == (None, None)
    assert fitted(8) == (27, None)
    assert fitted(6) == (None, ['image_encoder.layers', 'text_encoder.layers'])
    with pytest.raises(
        ValueError, match=r'needs a GPU of 5\.0 GB to train, by count, and this one has 4\.0: train adapters'
    ):
        fitted(4)


def test_zero_shot_set_is_one_that_is_there(tmp_path):
    assert finetune_recipe.choose_zero_shot(str(tmp_path)) is None
    (tmp_path / finetune_recipe.row_of('pets').folder).mkdir(parents=True)
    assert finetune_recipe.choose_zero_shot(str(tmp_path)) == 'pets'


def test_a_set_is_validated_where_it_is(tmp_path):
    assert tasks_where_present('cifar10', str(tmp_path)) == ({}, {})
    (tmp_path / finetune_recipe.row_of('cifar10').folder).mkdir(parents=True)
    loaders, evaluators = tasks_where_present('cifar10', str(tmp_path))
    assert list(loaders) == list(evaluators) == ['cifar10']


def test_shards_hold_out_whole_shards(place, tmp_path, monkeypatch):
    files = sorted((place / 'pairs').iterdir())
    for shard in range(6):
        with tarfile.open(tmp_path / f'{shard}.tar', 'w') as tar:
            for file in files[8 * shard : 8 * shard + 8]:
                tar.add(file, file.name)
    training, held_out, number = split_pairs(str(tmp_path), tmp_path / 'out')
    assert [url.rpartition('/')[2] for url in training['urls']] == [f'{shard}.tar' for shard in range(5)]
    rows = rows_of(held_out['ann_file'])
    assert number == 20
    assert [row['captions'] for row in rows] == [[f'a {COLOURS[i % 4]} square number {i}'] for i in range(20, 24)]
    (tmp_path / 'few').mkdir()
    (tmp_path / '0.tar').rename(tmp_path / 'few/0.tar')
    # Of too few shards to hold a whole one out images become files.
    training, held_out, number = split_pairs(str(tmp_path / 'few'), tmp_path / 'out1')
    assert (number, len(rows_of(training['ann_file'])), len(rows_of(held_out['ann_file']))) == (3, 3, 1)
    assert {len(Path(row['image']).read_bytes()) > 50 for row in rows_of(training['ann_file'])} == {True}
    monkeypatch.setattr('mmmaskclip.datasets.training.held_out._MOST_COPIED', 100)
    with pytest.raises(ValueError, match=r'1 shards of 4 pairs cannot be split.*Give held_out=PATH'):
        split_pairs(str(tmp_path / 'few'), tmp_path / 'out2')


def test_a_data_set_on_disk_holds_rows_out(place, tmp_path):
    datasets = pytest.importorskip('datasets', reason='datasets is not installed')
    files = sorted((place / 'pairs').glob('*.png')) or sorted((place / 'pairs').glob('*.jpg'))
    images = [{'bytes': file.read_bytes(), 'path': None} for file in files[:10]]
    texts = [f'square {number}' for number in range(10)]
    datasets.Dataset.from_dict({'image': images, 'text': texts}).save_to_disk(tmp_path / 'saved')
    training, held_out, number = split_pairs(str(tmp_path / 'saved'), tmp_path / 'out')
    trained, kept = (
        {caption: raw for _, raw, (caption,) in map(dataset.raw, range(len(dataset)))}
        for dataset in (DATASETS.build(dict(**part, views={'image': []})) for part in (training, held_out))
    )
    assert (number, len(trained), len(kept)) == (8, 8, 2)
    assert {**trained, **kept} == {text: image['bytes'] for text, image in zip(texts, images, strict=True)}


def test_bad_images_are_not_held_out(tmp_path):
    folder = write_pairs(tmp_path / 'pairs', 12)
    good = [row['image'] for row in rows_of(split_pairs(str(folder), tmp_path / 'a')[1]['ann_file'])]
    for name in good:
        Path(name).write_bytes(b'damaged')
    after = [row['image'] for row in rows_of(split_pairs(str(folder), tmp_path / 'b')[1]['ann_file'])]
    assert len(after) == 2
    assert not {*good} & {*after}
