"""Exports compute what the model computes, in the libraries that they are for, on real pixels and captions."""

import importlib.util
import json
import logging
import re
import subprocess
import sys

import numpy as np
import open_clip
import paths
import pytest
import timm
import torch
from mmengine.config import Config
from packaging import version
from PIL import Image

from mmmaskclip.checkpoints.export.folder import export_folder
from mmmaskclip.checkpoints.export.graphs import OLDEST_TORCH, export_graphs
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.checkpoints.files import sha256_of, write_checkpoint
from mmmaskclip.checkpoints.safe_load import read_state_dict
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.from_pretrained import from_pretrained, preprocessing
from mmmaskclip.models.open_vocabulary import encode_classes, encode_texts
from mmmaskclip.registry import MODELS

CAPTIONS = ['a red bus', 'Two dogs, running on grass! ' * 3, '']
TEMPLATE = 'a photo of a {}.'
STEM = dict(channels=(8, 8, 16), kernels=(2, 2, 4))
LOCAL = dict(type='LocalVisionTransformer')
ALL = ('open_clip', 'transformers', 'timm')
CLIP = dict(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5))


def photo():
    """Smooth, as photographs are, and of another shape than the model's images.

    Resized it is 48 x 32: of an odd margin transformers cuts the half pixel off on the other side.
    """
    small = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((92, 61), Image.Resampling.BICUBIC)


@pytest.fixture
def build(tiny_model_cfg):
    """A function that builds a tiny model; biases and positions are not the constants they start at."""

    def model(pool='mean', quick_gelu=False, **image):
        cfg = tiny_model_cfg()
        cfg['image_encoder'].update(image, quick_gelu=quick_gelu)
        cfg['image_projection']['pool'] = pool
        # All ids that captions have; heads are narrower than the 64 channels of published towers.
        cfg['text_encoder'].update(vocab_size=49408, quick_gelu=quick_gelu, context_length=24)
        cfg['data_preprocessor'].update(mean=[120, 110, 100], std=[60, 70, 80], interpolation='bicubic')
        torch.manual_seed(0)
        built = MODELS.build(cfg)
        built.init_weights()
        for parameter in built.parameters():
            if parameter.ndim != 2:
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        return built.eval().requires_grad_(False)

    return model


def ours(model):
    """Embeddings of the photo and of the captions."""
    return model.encode_image(preprocessing(model)(photo())[None]), encode_texts(model, CAPTIONS)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other, rtol=0, atol=1e-5)
    assert expected[0].std() > 0.1


@pytest.mark.parametrize(
    ('pool', 'quick_gelu', 'image'), [('mean', False, {}), ('cls', True, CLIP), ('mean', True, dict(CLIP, img_size=48))]
)
def test_open_clip_and_from_pretrained_read_the_folder(tmp_path, build, pool, quick_gelu, image):
    model = build(pool, quick_gelu, **image)
    export_folder(model, 'open_clip', tmp_path / 'a', dict(data='CC3M', license='mit', metrics={'cifar10/top1': 41.25}))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f'local-dir:{tmp_path / "a"}')
    tokens = open_clip.get_tokenizer(f'local-dir:{tmp_path / "a"}')(CAPTIONS)
    theirs.eval().requires_grad_(False)
    expected = ours(model)
    pixels = preprocess(photo())[None]
    assert_equal((theirs.encode_image(pixels, normalize=True), theirs.encode_text(tokens, normalize=True)), expected)
    torch.testing.assert_close(theirs.logit_scale.exp().item(), model.objectives['contrast'].logit_scale.exp().item())
    tokenizer = open_clip.get_tokenizer(f'local-dir:{tmp_path / "a"}')
    classifier = open_clip.build_zero_shot_classifier(theirs, tokenizer, ['bus', 'dog'], [TEMPLATE.format])
    assert_equal([classifier.t()], [encode_texts(model, [TEMPLATE.format(name) for name in ('bus', 'dog')])])
    back = from_pretrained(tmp_path / 'a')
    assert_equal((back.model.encode_image(back.preprocess(photo())[None]), ours(back.model)[1]), expected)
    card = (tmp_path / 'a/README.md').read_text()
    for part in (
        'license: mit',
        'Data: CC3M',
        '| cifar10/top1 | 41.25 |',
        'Recipe: not stated',
        'SHA-256 of open_clip',
    ):
        assert part in card


@pytest.mark.parametrize(
    ('pool', 'quick_gelu', 'image'), [('mean', False, dict(num_registers=3)), ('cls', False, {}), ('mean', True, CLIP)]
)
def test_timm_reads_the_image_tower(tmp_path, build, pool, quick_gelu, image):
    model = build(pool, quick_gelu, **image)
    export_folder(model, 'timm', tmp_path / 'a')
    theirs = timm.create_model(f'local-dir:{tmp_path / "a"}', pretrained=True).eval().requires_grad_(False)
    settings = timm.data.resolve_data_config({}, model=theirs)
    pixels = timm.data.create_transform(**settings)(photo())
    torch.testing.assert_close(pixels, preprocessing(model)(photo()), rtol=0, atol=1e-5)
    features = model.image_encoder.features(pixels[None])
    pooled = features.cls if pool == 'cls' else features.patches.mean(1)
    torch.testing.assert_close(theirs(pixels[None]), pooled, rtol=0, atol=1e-5)
    # As a backbone elsewhere: feature maps of blocks.
    maps = timm.create_model(f'local-dir:{tmp_path / "a"}', pretrained=True, features_only=True, out_indices=(0, 1))
    rows, columns = model.image_encoder.patch_resolution
    assert [tuple(one.shape) for one in maps(pixels[None])] == [(1, 32, rows, columns)] * 2


def test_timm_reads_towers_that_were_trained_without_texts(tmp_path, build):
    """Of ours, and of mmpretrain's SimCLR around our tower."""
    model = build()
    features = model.image_encoder.features(preprocessing(model)(photo())[None]).patches.mean(1)
    pixels = preprocessing(model)(photo())[None]
    alone = torch.nn.Module()
    alone.backbone, alone.data_preprocessor = model.image_encoder, model.data_preprocessor
    model.text_encoder = model.image_projection = None
    for name, source in (('ours', model), ('around', alone)):
        export_folder(source, 'timm', tmp_path / name)
        theirs = timm.create_model(f'local-dir:{tmp_path / name}', pretrained=True).eval().requires_grad_(False)
        torch.testing.assert_close(theirs(pixels), features, rtol=0, atol=1e-5)
    with pytest.raises(NotExpressible, match='no text tower or no projections; --to timm writes its image tower'):
        export_folder(model, 'open_clip', tmp_path / 'c')


THEIRS = """
import sys, numpy as np, torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor
folder, captions = sys.argv[1], sys.argv[2:]
model = CLIPModel.from_pretrained(folder).eval()
processor = CLIPProcessor.from_pretrained(folder)
options = dict(return_tensors='pt', padding=True, truncation=True)
inputs = processor(text=captions, images=Image.open(folder + '/photo.png'), **options)
seen = inputs['pixel_values'].numpy()
inputs['pixel_values'] = torch.from_numpy(np.load(folder + '/pixels.npy'))
with torch.no_grad():
    outputs = model(**inputs)
np.savez(folder + '/found.npz', image=outputs.image_embeds.numpy(), text=outputs.text_embeds.numpy(), pixels=seen)
"""


@pytest.mark.skipif(importlib.util.find_spec('transformers') is None, reason='transformers is not installed')
def test_transformers_reads_the_folder(tmp_path, build):
    """In a process of its own, so that this one keeps what it has registered."""
    model = build('cls', True, **CLIP)
    export_folder(model, 'transformers', tmp_path / 'a')
    photo().save(tmp_path / 'a/photo.png')
    pixels = preprocessing(model)(photo())[None]
    np.save(tmp_path / 'a/pixels.npy', pixels)
    subprocess.run([sys.executable, '-c', THEIRS, str(tmp_path / 'a'), *CAPTIONS], check=True, timeout=200)
    found = np.load(tmp_path / 'a/found.npz')
    assert_equal((found['image'], found['text']), ours(model))
    # transformers 5 resizes tensors, others images: by up to three of 255 grey levels.
    assert np.abs(found['pixels'] - pixels.numpy()).max() < 3 / 60


def test_from_pretrained_reads_the_folder_of_transformers(tmp_path, build):
    model = build('cls', True, **CLIP)
    export_folder(model, 'transformers', tmp_path / 'a')
    back = from_pretrained(tmp_path / 'a')
    assert_equal((back.model.encode_image(back.preprocess(photo())[None]), ours(back.model)[1]), ours(model))
    assert json.loads((tmp_path / 'a/vocab.json').read_text())['<|endoftext|>'] == 49407


@pytest.mark.parametrize(
    ('to', 'changes', 'message'),
    [
        (
            'transformers',
            {},
            r"pools the class token .*pool='cls'.*; it has .*pre_norm=True.*--to open_clip",
        ),
        ('transformers', dict(CLIP, pool='cls', num_registers=1), 'has no registers'),
        ('open_clip', dict(num_registers=2), r'without the 2 of this tower .* --to timm'),
        ('timm', dict(quick_gelu=True), r'no tower with eps=1e-06 and QuickGELU'),
        ('open_clip', dict(window_size=2, global_blocks=(1,)), r'windows or no class token'),
        *((to, dict(LOCAL, neighbourhood=3), r'neighbourhood=3; train with .*=None\).*--to onnx') for to in ALL),
        *((to, dict(LOCAL, stem=STEM), r'convolutional stem \(train with stem=None\).*--to onnx') for to in ALL),
        *((to, dict(final_norm=False), r'no norm after its blocks .*final_norm=True') for to in ALL),
        ('timm', dict(layer_scale_init_value=1e-5), r'has layers\.0\..*gamma.* \(train without\)'),
    ],
)
def test_what_a_library_cannot_express_is_named_with_the_remedy(tmp_path, build, to, changes, message):
    with pytest.raises(NotExpressible, match=message):
        export_folder(build(**changes), to, tmp_path / 'a')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(text_encoder=dict(causal=False)), r"causal=False, pool='max' \(train with causal=True"),
        (dict(text_encoder=dict(pool=2)), r'pool=2 '),
        (dict(text_encoder=dict(hidden=80)), r'another hidden width or eps'),
        (dict(text_encoder=dict(activation='gelu_tanh')), r"text tower has GELU\(approximate='tanh'\)"),
        (dict(text_encoder=dict(tokenizer=dict(path='x'))), r"the tokenizer of an export is CLIP's"),
        (dict(text_projection=dict(bias=True)), r'TextProjectionHead .*bias=False'),
        (dict(image_encoder=dict(_delete_=True, type='WholeImageTower')), r'is a WholeImageTower'),
    ],
)
def test_no_part_of_a_model_is_dropped_silently(tmp_path, tiny_model_cfg, change, message):
    cfg = Config(dict(model=tiny_model_cfg()))
    if 'image_encoder' in change:
        change['image_encoder']['backbone'] = dict(type='torchvision.models.resnet18', num_classes=32)
    cfg.merge_from_dict(dict(model=change))
    with pytest.raises(NotExpressible, match=message):
        export_folder(MODELS.build(cfg.model), 'open_clip', tmp_path / 'a')


@pytest.mark.parametrize('changes', [dict(stem=STEM), dict(stem=STEM, neighbourhood=3), dict(neighbourhood=3)])
def test_graphs_keep_a_stem_and_a_neighbourhood(tmp_path, build, changes):
    model = build(**LOCAL, **changes)
    export_graphs(model, 'torchscript', tmp_path)
    images = torch.stack([preprocessing(model)(photo())] * 3)
    images[1] = images[0].flip(2)
    for name, expected in (('image', model.encode_image(images)), ('dense', model.encode_dense(images))):
        found = torch.jit.load(tmp_path / f'{name}.pt')(images)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_onnx_of_a_neighbourhood_takes_batches_of_any_number(tmp_path, build):
    needs_onnx()
    model = build(**LOCAL, neighbourhood=3)
    export_graphs(model, 'onnx', tmp_path)
    images = torch.randn(3, 3, 32, 32)
    for name, expected in (('image', model.encode_image(images)), ('dense', model.encode_dense(images))):
        torch.testing.assert_close(run_onnx(tmp_path / f'{name}.onnx', images), expected, rtol=0, atol=1e-4)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, build):
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError, match='is not empty'):
        export_folder(build(), 'open_clip', tmp_path)


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


def test_open_clips_own_evaluation_gives_our_accuracy(tmp_path, build, monkeypatch, caplog):
    """Its command, on a folder as that of ImageNet's val; few classes, because the prompts of 1,000 take minutes."""
    main, zero_shot = map(importlib.import_module, ('open_clip_train.main', 'open_clip_train.zero_shot'))
    names, templates = ['tench', 'goldfish', 'hen', 'ostrich', 'jay', 'bulbul', 'magpie'], ['a {}.', 'my {}.']
    monkeypatch.setattr(zero_shot, 'IMAGENET_CLASSNAMES', names)
    monkeypatch.setattr(zero_shot, 'OPENAI_IMAGENET_TEMPLATES', [template.format for template in templates])
    monkeypatch.setattr(zero_shot, 'accuracy', count_hits)
    monkeypatch.setattr(main, 'setup_logging', lambda path, level: None)  # it sets the level of every logger
    caplog.set_level(logging.INFO)
    model = build()
    export_folder(model, 'open_clip', tmp_path / 'a')
    image = model.encode_image(preprocessing(model)(photo())[None])[0]
    best = (encode_classes(model, names, templates) @ image).argmax()
    # The same photo in every folder, twice in that of the best class: 2 of 8 are right at once, 6 among the first five.
    for index in range(len(names)):
        (tmp_path / f'val/n{index:08d}').mkdir(parents=True)
        photo().save(tmp_path / f'val/n{index:08d}/0.PNG')
    photo().save(tmp_path / f'val/n{best:08d}/1.PNG')
    command = ['--model', f'local-dir:{tmp_path / "a"}', '--imagenet-val', str(tmp_path / 'val'), '--workers', '0']
    main.main([*command, '--precision', 'fp32', '--logs', str(tmp_path / 'logs')])
    assert re.findall(r'val-top(\d): ([\d.]+)', caplog.text) == [('1', '0.2500'), ('5', '0.7500')]


def count_hits(output, target, topk):
    """Theirs turns an array of one number into a number, which NumPy 2.4 refuses."""
    hits = output.topk(max(topk)).indices == target[:, None]
    return [float(hits[:, :k].sum()) for k in topk]


def test_a_torch_that_is_too_old_for_onnx_is_named_with_what_works(tmp_path, build, monkeypatch):
    monkeypatch.setattr(torch, '__version__', '2.6.0+cu124')
    with pytest.raises(ImportError, match=r"torch 2\.6\.0\+cu124 cannot .* 2\.10 is the oldest .* to='torchscript'"):
        export_graphs(build(), 'onnx', tmp_path)


def test_tool_takes_the_model_from_the_checkpoint(tmp_path, capsys):
    export = paths.load_module('tools/model_converters/export.py')
    config = Config.fromfile(paths.CONFIGS / '_base_/models/clip_vitxs16_64.py').model.to_dict()
    config['text_encoder']['vocab_size'] = 100
    checkpoint = {'state_dict': MODELS.build(config).state_dict(), 'meta': {'cfg': f'model = {config!r}'}}
    write_checkpoint(tmp_path / 'epoch_1.pth', checkpoint)
    export.main([str(tmp_path / 'epoch_1.pth'), '--to', 'timm', '--out', str(tmp_path / 'a'), '--license', 'mit'])
    digest = sha256_of(tmp_path / 'a/model.safetensors')
    assert capsys.readouterr().out.split()[-2:] == ['sha256', digest]
    assert f'`{digest}`' in (tmp_path / 'a/README.md').read_text()
    with pytest.raises(SystemExit):
        export.main([str(tmp_path / 'epoch_1.pth'), '--to', 'transformers', '--out', str(tmp_path / 'b')])
    assert "train with image_projection.pool='cls'" in capsys.readouterr().err
    for options, message in (
        (['timm', '--precision', 'fp16'], 'smaller ONNX graphs, and --to is timm'),
        (['onnx', '--photos', 'a.jpg'], 'give --precision, or leave --photos out'),
    ):
        with pytest.raises(SystemExit):
            export.main([str(tmp_path / 'epoch_1.pth'), '--out', str(tmp_path / 'b'), '--to', *options])
        assert message in capsys.readouterr().err


@pytest.mark.parametrize('method', ['simclr', 'mae'])
def test_tool_exports_image_only_baselines(tmp_path, method):
    register_all_modules()
    config = f'{paths.CONFIGS}/{method}/vitt16_flickr8k.py'
    model = MODELS.build(Config.fromfile(config).model)
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'epoch_1.pth')
    export = paths.load_module('tools/model_converters/export.py')
    export.main([str(tmp_path / 'epoch_1.pth'), '--config', config, '--to', 'timm', '--out', str(tmp_path / 'a')])
    theirs = timm.create_model(f'local-dir:{tmp_path / "a"}', pretrained=True).eval()
    assert torch.equal(theirs.blocks[11].mlp.fc2.weight, model.backbone.layers[11].ffn.layers[1].weight)
