"""A checkpoint written by commit 30d40f3 resumes and is evaluated as it was by that commit.

The checkpoint is no file in git. ``recorded/checkpoint_30d40f3.json`` is its structure: every key, the name, dtype and
shape of every tensor, and every plain value. :func:`build` makes the file from it: the numbers of a tensor are drawn
from a generator seeded with the tensor's name. The record also has what 30d40f3 made of that very file: losses of the
resumed steps, the sum and the norm of every tensor at the end, and the metrics. This file writes the record and reads
it, so that both commits build the same checkpoint.

To record a later format, when one must change: copy this file into a clone of the commit whose checkpoints are to stay
readable, run ``python tests/test_earlier_checkpoint.py tests/recorded/checkpoint_COMMIT.json`` there with that commit
installed, and keep the new file beside the old one.
"""

import hashlib
import json
import math
import random
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from paths import CONFIGS, ROOT
from PIL import Image

from mmmaskclip.cli.test import main as evaluate
from mmmaskclip.cli.train import main as train

RECORDS = sorted((ROOT / 'tests/recorded').glob('checkpoint_*.json'))
SAVED, LAST = 3, 6
# On another kind of CPU sums are rounded otherwise.
TOLERANCE = dict(rel=1e-4, abs=1e-5)
TENSOR, TUPLE, ORDERED, PAIRS, ARRAY, RANDOM = '~tensor', '~tuple', '~ordered', '~pairs', '~array', '~random'


def describe(value: Any) -> Any:
    """The structure of a checkpoint as JSON; of tensors and arrays only dtype and shape."""
    if isinstance(value, torch.Tensor):
        return {TENSOR: [str(value.dtype).removeprefix('torch.'), list(value.shape)]}
    if isinstance(value, np.ndarray):
        return {ARRAY: [str(value.dtype), value.tolist()]}
    if isinstance(value, OrderedDict):
        return {ORDERED: {key: describe(item) for key, item in value.items()}}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, dict):
        return {PAIRS: [[key, describe(item)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {TUPLE: [describe(item) for item in value]}
    return [describe(item) for item in value] if isinstance(value, list) else value


def build(node: Any, name: str = '') -> Any:
    """What :func:`describe` described, with numbers that depend on the names of the tensors alone."""
    if isinstance(node, list):
        return [build(item, f'{name}.{index}') for index, item in enumerate(node)]
    if not isinstance(node, dict):
        return node
    kind, content = next(iter(node.items()), ('', None))
    if kind == TENSOR:
        return draw(name, *content)
    if kind == RANDOM:
        return random_states(content)
    if kind == ARRAY:
        return np.array(content[1], content[0])
    if kind == TUPLE:
        return tuple(build(item, f'{name}.{index}') for index, item in enumerate(content))
    if kind == PAIRS:
        return {key: build(item, f'{name}.{key}') for key, item in content}
    items = content if kind == ORDERED else node
    made = {key: build(item, f'{name}.{key}') for key, item in items.items()}
    return OrderedDict(made) if kind == ORDERED else made


def draw(name: str, dtype: str, shape: list[int]) -> torch.Tensor:
    """Numbers for a tensor, from a generator seeded with the SHA-256 of its name."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], 'big')
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values = 0.1 * noise
    if name.endswith('.step'):
        values = torch.full(shape, float(SAVED))
    elif 'exp_avg_sq' in name:
        # Large, so that no step of Adam depends on the rounding of a gradient near zero.
        values = 0.01 + 0.001 * noise.square()
    elif 'exp_avg' in name:
        values = 0.01 * noise
    elif 'logit_scale' in name:
        values = 2 + values
    elif name.endswith('.weight') and len(shape) == 1:
        values = 1 + values
    return values.to(getattr(torch, dtype))


def random_states(kinds: dict[str, str]) -> list[dict[str, Any]]:
    """The states of the generators of one process, as they are after seeding with 3."""
    python, numpy = random.Random(3).getstate(), np.random.RandomState(3).get_state()
    values = {
        'python': python,
        'numpy': (numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *numpy[2:]),
        'torch': torch.Generator().manual_seed(3).get_state(),
        'cuda': None,
    }
    assert {name: forms(value) for name, value in values.items()} == kinds
    return [values]


def forms(value: Any) -> str:
    """The types within a value, with the sizes of large parts: ``tuple(int, int[625], NoneType)``."""
    if isinstance(value, torch.Tensor):
        return f'{value.dtype}[{value.numel()}]'
    if isinstance(value, (tuple, list)):
        parts = f'int[{len(value)}]' if len(value) > 9 else ', '.join(map(forms, value))
        return f'{type(value).__name__}({parts})'
    return type(value).__name__


def write_config(folder: Path) -> str:
    """Twelve pairs and a config that trains MaskCLIP with words on them for two epochs of three batches."""
    lines = ['filepath,caption']
    for number in range(12):
        pixels = np.random.RandomState(number).randint(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f'{number}.png')
        lines.append(f'{number}.png,photo number {number}')
    (folder / 'pairs.csv').write_text('\n'.join(lines))
    words = dict(width=4, num_heads=1, vocab_size=49408)
    objectives = dict(
        contrast=dict(type='ImageTextContrast'),
        distillation=dict(
            type='MaskedSelfDistillation',
            decoder=dict(type='MaskedTokenDecoder', width=8, num_patches=16, num_heads=2),
            loss=dict(type='FeatureRegressionLoss'),
        ),
        mlm=dict(type='MaskedLanguageModeling', decoder=dict(type='TextDecoder', depth=1, **words)),
    )
    arch = dict(embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=16)
    model = dict(
        type='ImageTextPretrainer',
        data_preprocessor=dict(type='ImageTextPreprocessor', mean=[127.5] * 3, std=[127.5] * 3),
        image_encoder=dict(type='CLIPVisionTransformer', arch=arch, patch_size=4, img_size=16),
        image_projection=dict(type='ImageProjectionHead', in_channels=8, embed_dims=4),
        text_encoder=dict(type='CLIPTextTransformer', num_layers=1, **words),
        text_projection=dict(type='TextProjectionHead', in_channels=4, embed_dims=4),
        objectives=objectives,
    )

    def loader(shuffle: bool, steps: list[dict], **options) -> dict:
        return dict(
            batch_size=4,
            num_workers=0,
            collate_fn=dict(type='mmmaskclip.collate_image_text'),
            sampler=dict(type='DefaultSampler', shuffle=shuffle),
            dataset=dict(type='ImageTextPairs', ann_file=str(folder / 'pairs.csv'), views=dict(image=steps), **options),
        )

    cfg = Config.fromfile(CONFIGS / '_base_/default_runtime.py')
    cfg.merge_from_dict(
        dict(
            model=model,
            train_dataloader=loader(True, [dict(type='torchvision/RandomResizedCrop', size=16, scale=(0.5, 1.0))]),
            train_cfg=dict(type='PretrainLoop', max_epochs=2),
            optim_wrapper=dict(
                type='PretrainOptimWrapper',
                constructor='PretrainOptimWrapperConstructor',
                optimizer=dict(type='AdamW', lr=0.01, weight_decay=0.1, fused=True),
                clip_grad=dict(max_norm=1.0),
            ),
            param_scheduler=[
                dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=2),
                dict(type='CosineAnnealingLR', by_epoch=False, begin=2, end=LAST, T_max=LAST - 2),
            ],
            default_hooks=dict(logger=dict(interval=1), checkpoint=dict(interval=SAVED, max_keep_ckpts=5)),
            test_dataloader=dict(pairs=loader(False, [dict(type='torchvision/Resize', size=16)], test_mode=True)),
            test_evaluator=dict(pairs=dict(type='RetrievalRecall', topk=(1, 2, 5))),
            test_cfg=dict(type='EvaluationLoop'),
        )
    )
    cfg.visualizer.vis_backends = [dict(type='LocalVisBackend')]
    cfg.dump(folder / 'config.py')
    return str(folder / 'config.py')


def resume_and_evaluate(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Build the checkpoint, resume it to the end of the run and evaluate the result: a record's ``result``."""
    config, work_dir = write_config(folder), folder / 'resumed'
    work_dir.mkdir()
    path = work_dir / f'iter_{SAVED}.pth'
    torch.save(build(record['checkpoint']), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    Path(f'{path}.sha256').write_text(record['checksum_file'].format(digest))
    train([config, '--work-dir', str(work_dir), '--resume', 'auto'])
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    names = ('loss', 'contrast_loss', 'distillation_loss', 'mlm_loss', 'grad_norm', 'teacher_momentum', 'lr', 'step')
    steps = [{name: step[name] for name in names} for step in map(json.loads, scalars.read_text().splitlines())]
    ended = torch.load(work_dir / f'iter_{LAST}.pth', weights_only=False)
    metrics = evaluate([config, str(work_dir / f'iter_{LAST}.pth'), '--work-dir', str(work_dir)])
    return dict(
        steps=steps,
        # Sum and norm of each.
        parameters={name: [value.sum().item(), value.norm().item()] for name, value in ended['state_dict'].items()},
        second_moments=[state['exp_avg_sq'].sum().item() for state in ended['optimizer']['state'].values()],
        metrics=metrics,
    )


@pytest.fixture(scope='module', params=RECORDS, ids=lambda path: path.stem)
def results(request, tmp_path_factory):
    """What a record expects, and what today's code made of its checkpoint."""
    record = json.loads(request.param.read_text())
    return record['result'], resume_and_evaluate(record, tmp_path_factory.mktemp('earlier'))


def test_the_resumed_steps_have_the_recorded_losses(results):
    expected, found = results
    assert [step['step'] for step in found['steps']] == [SAVED + 1, SAVED + 2, SAVED + 3]
    for one, other in zip(found['steps'], expected['steps'], strict=True):
        assert one == pytest.approx(other, **TOLERANCE)


def test_the_parameters_have_the_recorded_names_and_end_where_they_did(results):
    expected, found = results
    assert list(found['parameters']) == list(expected['parameters'])
    for name, sums in expected['parameters'].items():
        assert found['parameters'][name] == pytest.approx(sums, **TOLERANCE), name
    # By the position of the parameter, which is all that an optimizer keeps of it.
    assert found['second_moments'] == pytest.approx(expected['second_moments'], **TOLERANCE)


def test_the_evaluation_gives_the_recorded_metrics(results):
    expected, found = results
    assert found['metrics'] == pytest.approx(expected['metrics'], **TOLERANCE)
    assert all(math.isfinite(value) and value < 100 for value in found['metrics'].values())


def write_record(path: Path) -> None:
    """Train three of six steps with the installed package, describe the checkpoint, and note what becomes of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train([write_config(folder), '--work-dir', str(folder / 'run')])
        saved = folder / f'run/iter_{SAVED}.pth'
        checkpoint = torch.load(saved, weights_only=False)
        checksum_file = Path(f'{saved}.sha256').read_text()
        states = checkpoint.pop('random_states')
        described = describe(checkpoint)
        described['meta']['cfg'] = f'# {len(described["meta"]["cfg"])} characters: the config of the run'
        described['random_states'] = {RANDOM: {name: forms(value) for name, value in states[0].items()}}
        digest = hashlib.sha256(saved.read_bytes()).hexdigest()
        record = dict(checkpoint=described, checksum_file=checksum_file.replace(digest, '{}'))
        (folder / 'again').mkdir()
        record['result'] = resume_and_evaluate(record, folder / 'again')
    path.write_text(json.dumps(record, separators=(',', ':')) + '\n')


if __name__ == '__main__':
    torch.set_num_threads(1)
    write_record(Path(sys.argv[1]))
