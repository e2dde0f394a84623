"""Graphs compute what the model computes, in ONNX Runtime and TorchScript."""

import importlib.util
import json

import pytest
import torch
from exported import LOCAL, STEM, photo, pictures, released
from packaging import version

from mmmaskclip.checkpoints.export import graphs
from mmmaskclip.checkpoints.export.graphs import OLDEST_TORCH, export_graphs
from mmmaskclip.checkpoints.files import sha256_of
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.models.from_pretrained import preprocessing


def needs_onnx():
    missing = [name for name in ('onnx', 'onnxscript', 'onnxruntime') if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'not installed: {", ".join(missing)}')
    if version.parse(torch.__version__) < version.parse(OLDEST_TORCH):
        pytest.skip(f'torch {torch.__version__} cannot export them')


def run_onnx(path, given):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])


def tokens():
    tokens = torch.nn.functional.pad(torch.randint(1, 49000, (5, 8)), (0, 3))
    tokens[:, 8] = 49407
    return tokens


def test_traces_take_batches_and_captions_of_any_size(tmp_path, build):
    model = build()
    export_graphs(model, 'torchscript', tmp_path, 'value')
    images = torch.stack([preprocessing(model)(photo())] * 3)
    images[1] = images[0].flip(2)
    words = tokens()
    for name, given, expected in (
        ('image', images, model.encode_image(images)),
        ('text', words, model.encode_text(words)),
        ('dense', images, model.encode_dense(images, 'value')),
    ):
        torch.testing.assert_close(torch.jit.load(tmp_path / f'{name}.pt')(given), expected, rtol=0, atol=1e-5)
    # Such a file is read without running it, as one of OpenAI's.
    assert 'model.image_encoder.pos_embed' in read_state_dict(tmp_path / 'image.pt')
    with pytest.raises(ValueError, match="are written by ONNX Runtime: choose to='onnx'"):
        export_graphs(model, 'torchscript', tmp_path, precisions=['fp16'])


def test_onnx_takes_images_of_any_size_and_says_what_smaller_graphs_lose(tmp_path, build):
    needs_onnx()
    model = build()
    given = preprocessing(model)(photo())[None]
    digests = export_graphs(model, 'onnx', tmp_path, 'self_calibrated', ['fp16', 'int8'], dict(license='mit'), given)
    words = tokens()
    torch.testing.assert_close(run_onnx(tmp_path / 'text.onnx', words), model.encode_text(words), rtol=0, atol=1e-4)
    # The model's size, and another, wider, grid than the graph was traced with.
    for shape in ((3, 3, 32, 32), (2, 3, 40, 72)):
        images = torch.randn(shape)
        for name, expected in (
            ('image', model.encode_image(images)),
            ('dense', model.encode_dense(images, 'self_calibrated')),
        ):
            found = run_onnx(tmp_path / f'{name}.onnx', images)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    card = (tmp_path / 'README.md').read_text()
    assert 'in float32, on photographs and four' in card
    assert all(f'- SHA-256 of {name}: `{digest}`' in card for name, digest in digests.items())
    assert digests['image.fp16.onnx'] == sha256_of(tmp_path / 'image.fp16.onnx')
    for name, bound in (('image.fp16.onnx', 5e-3), ('image.int8.onnx', 0.2)):
        row = next(line for line in card.splitlines() if line.startswith(f'| {name} '))
        images = torch.randn(2, 3, 32, 32)
        lost = (run_onnx(tmp_path / name, images) - model.encode_image(images)).abs().max()
        assert 0 < float(row.split('|')[2]) < bound
        assert lost < bound
    # What is needed to make its inputs.
    assert json.loads((tmp_path / 'preprocess.json').read_text())['interpolation'] == 'bicubic'
    assert json.loads((tmp_path / 'vocab.json').read_text())['<|endoftext|>'] == 49407


@pytest.mark.parametrize('changes', [dict(stem=STEM), dict(stem=STEM, neighbourhood=3), dict(neighbourhood=3)])
def test_graphs_keep_a_stem_and_a_neighbourhood(tmp_path, build, changes):
    model = build(**LOCAL, **changes)
    export_graphs(model, 'torchscript', tmp_path)
    images = torch.stack([preprocessing(model)(photo())] * 3)
    images[1] = images[0].flip(2)
    for name, expected in (('image', model.encode_image(images)), ('dense', model.encode_dense(images))):
        found = torch.jit.load(tmp_path / f'{name}.pt')(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.fixture
def one_graph(monkeypatch):
    """A function that makes exports write one of their graphs: each takes seconds."""
    every = graphs._parts

    def write(name):
        monkeypatch.setattr(graphs, '_parts', lambda *args: {name: every(*args)[name]})

    return write


@torch.no_grad()
def test_onnx_of_a_neighbourhood_takes_batches_of_any_number(tmp_path, build, one_graph):
    needs_onnx()
    model = build(**LOCAL, neighbourhood=3)
    one_graph('dense')
    export_graphs(model, 'onnx', tmp_path)
    images = torch.randn(3, 3, 32, 32)
    found = run_onnx(tmp_path / 'dense.onnx', images)
    torch.testing.assert_close(found, model.encode_dense(images), rtol=0, atol=1e-4)


@torch.no_grad()
def test_onnx_of_a_tower_of_timm(tmp_path, one_graph):
    """One of them: rotary positions and a pool by attention."""
    needs_onnx()
    _, model = released(tmp_path / 'source', 'tiny_patch8_pe_core_32')
    one_graph('image')
    export_graphs(model, 'onnx', tmp_path / 'a')
    pixels = pictures(model)
    found = run_onnx(tmp_path / 'a/image.onnx', pixels)
    torch.testing.assert_close(found, model.encode_image(pixels), rtol=0, atol=1e-4)


def test_a_torch_that_is_too_old_for_onnx_is_named_with_what_works(tmp_path, build, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.0+cu124')
    with pytest.raises(ImportError, match=r"torch 2\.6\.0\+cu124 cannot .* 2\.10 is the oldest .* to='torchscript'"):
        export_graphs(build(), 'onnx', tmp_path)
