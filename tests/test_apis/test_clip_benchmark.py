"""CLIP_benchmark's own command evaluates a checkpoint of ours: the numbers are those of our own embeddings."""

import importlib
import io
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from webdataset import TarWriter

from mmmaskclip.apis.clip_benchmark import load_model, run
from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.models.open_vocabulary import encode_texts
from mmmaskclip.registry import MODELS

clip_benchmark = pytest.importorskip('clip_benchmark', reason='clip-benchmark is not installed')
CLASSES, TEMPLATES = ['cat', 'small dog', 'bird'], ['a photo of a {c}.', 'a {c}']


@pytest.fixture
def command(monkeypatch):
    """Its packages for downloads and captioning, which are not needed here, are stand-ins where they are missing."""
    captioning = {'bleu': 'Bleu', 'cider': 'Cider', 'meteor': 'Meteor', 'rouge': 'Rouge', 'spice': 'Spice'}
    captioning |= {'tokenizer.ptbtokenizer': 'PTBTokenizer'}
    names = ['requests', 'pycocoevalcap', 'pycocoevalcap.tokenizer']
    for name in captioning:
        names += [f'pycocoevalcap.{name}', f'pycocoevalcap.{name}.{name}']
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            module = ModuleType(name)
            for cls in captioning.values():
                setattr(module, cls, None)
            monkeypatch.setitem(sys.modules, name, module)
    models = pytest.importorskip('clip_benchmark.models')
    monkeypatch.setattr(models, 'MODEL_TYPES', models.MODEL_TYPES)
    monkeypatch.setitem(models.TYPE2FUNC, 'mmmaskclip', load_model)
    metrics = importlib.import_module('clip_benchmark.metrics.zeroshot_classification')
    monkeypatch.setattr(metrics, 'accuracy', metrics.accuracy)
    return run


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory, tiny_model_cfg):
    path = tmp_path_factory.mktemp('weights') / 'epoch_1.pth'
    cfg = tiny_model_cfg()
    cfg['text_encoder']['vocab_size'] = 49408
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    write_checkpoint(path, {'state_dict': model.state_dict(), 'meta': {'cfg': f'model = {cfg!r}'}})
    return path


def photos():
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)) for _ in range(9)]


def write_set(folder, samples, **files):
    (folder / 'test').mkdir(parents=True)
    (folder / 'test/nshards.txt').write_text('1')
    for name, text in files.items():
        (folder / f'{name}.txt').write_text(text)
    with TarWriter(str(folder / 'test/0.tar')) as writer:
        for index, (image, sample) in enumerate(zip(photos(), samples, strict=True)):
            buffer = io.BytesIO()
            image.save(buffer, 'PNG')
            writer.write({'__key__': f's{index:07d}', 'png': buffer.getvalue(), **sample})


def evaluate(command, checkpoint, folder, task):
    arguments = [
        'eval',
        '--task',
        task,
        '--pretrained',
        str(checkpoint),
        '--dataset',
        'wds/tiny',
        '--dataset_root',
        str(folder),
    ]
    output = folder / 'out.json'
    command([*arguments, '--num_workers', '0', '--no_amp', '--quiet', '--recall_k', '1', f'--output={output}'])
    return json.loads(output.read_text())


@torch.no_grad()
def test_classification(command, checkpoint, tmp_path):
    labels = [0, 1, 2] * 3
    texts = dict(classnames='\n'.join(CLASSES), zeroshot_classification_templates='\n'.join(TEMPLATES))
    write_set(tmp_path, [{'cls': str(label)} for label in labels], **texts)
    result = evaluate(command, checkpoint, tmp_path, 'auto')
    assert (result['task'], result['model']) == ('zeroshot_classification', 'auto')
    loaded = from_pretrained(checkpoint)
    images = loaded.model.encode_image(torch.stack([loaded.preprocess(photo) for photo in photos()]))
    prompts = [[template.format(c=name) for template in TEMPLATES] for name in CLASSES]
    means = torch.stack([encode_texts(loaded.model, lines).mean(0) for lines in prompts])
    found = (images @ torch.nn.functional.normalize(means, dim=-1).t()).argmax(1)
    assert result['metrics']['acc1'] == pytest.approx((found == torch.tensor(labels)).float().mean().item())


@torch.no_grad()
def test_retrieval(command, checkpoint, tmp_path):
    captions = [f'a photo of number {index} among the nine' for index in range(9)]
    write_set(tmp_path, [{'txt': caption} for caption in captions], dataset_type='retrieval')
    result = evaluate(command, checkpoint, tmp_path, 'zeroshot_retrieval')
    loaded = from_pretrained(checkpoint)
    images = loaded.model.encode_image(torch.stack([loaded.preprocess(photo) for photo in photos()]))
    scores = encode_texts(loaded.model, captions) @ images.t()
    expected = (scores.argmax(1) == torch.arange(9)).float().mean().item()
    assert result['metrics']['image_retrieval_recall@1'] == pytest.approx(expected)


def test_its_absence_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, 'clip_benchmark', None)
    with pytest.raises(SystemExit, match='pip install clip-benchmark'):
        run(['eval'])
