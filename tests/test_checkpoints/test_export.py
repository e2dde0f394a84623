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
from exported import LOCAL, STEM, photo, write_tokenizer
from mmengine.config import Config

from mmmaskclip.checkpoints.export.folder import export_folder
from mmmaskclip.checkpoints.export.parts import NotExpressible
from mmmaskclip.checkpoints.files import sha256_of, write_checkpoint
from mmmaskclip.engine.registration import register_all_modules
from mmmaskclip.models.from_pretrained import from_pretrained, preprocessing
from mmmaskclip.models.open_vocabulary import encode_classes, encode_texts
from mmmaskclip.registry import MODELS

CAPTIONS = ['a red bus', 'Two dogs, running on grass! ' * 3, '']
TEMPLATE = 'a photo of a {}.'
ALL = ('open_clip', 'transformers', 'timm')
CLIP = dict(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5))


def ours(model):
    """Embeddings of the photo and of the captions."""
    return model.encode_image(preprocessing(model)(photo())[None]), encode_texts(model, CAPTIONS)


def assert_equal(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.as_tensor(one), other, rtol=0, atol=1e-5)
    assert expected[0].std() > 0.1


@pytest.mark.parametrize(
    ('pool', 'quick_gelu', 'image'),
    [('mean', False, dict(sigmoid=True)), ('cls', True, CLIP), ('mean', True, dict(CLIP, img_size=48))],
)
def test_open_clip_and_from_pretrained_read_the_folder(tmp_path, build, pool, quick_gelu, image):
    model = build(pool, quick_gelu, **image)
    export_folder(model, 'open_clip', tmp_path / 'a', dict(data='CC3M', license='mit', metrics={'cifar10/top1': 41.25}))
    theirs, _, preprocess = open_clip.create_model_and_transforms(f'local-dir:{tmp_path / "a"}')
    tokens = open_clip.get_tokenizer(f'local-dir:{tmp_path / "a"}')(CAPTIONS)
    theirs.eval().requires_grad_(False)
    expected = ours(model)
    assert_equal([theirs.get_logits(preprocess(photo())[None], tokens)[0]], [model.logits(*expected)])
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
        ('transformers', dict(CLIP, pool='cls', sigmoid=True), 'its logits have no bias .*--to open_clip'),
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
        (dict(text_encoder=dict(tokenizer=dict(path='x'))), r"tokenizer=.*, and CLIPModel's is CLIP's"),
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
        export_folder(MODELS.build(cfg.model), 'transformers', tmp_path / 'a')


@pytest.mark.parametrize(
    'words',
    [
        dict(pool=2),  # MetaCLIP 2
        dict(pool='last', causal=False, activation='gelu_tanh', eps=1e-6, hidden=80),  # SigLIP 2
    ],
)
def test_open_clip_has_the_text_towers_of_other_families(tmp_path, tiny_model_cfg, words):
    config = tiny_model_cfg()
    config['text_encoder'].update(words, vocab_size=50, context_length=12, tokenizer=dict(pad_id=0))
    config['text_encoder']['tokenizer']['file'] = write_tokenizer(tmp_path)
    config['text_projection']['bias'] = True
    torch.manual_seed(0)
    model = MODELS.build(config)
    model.init_weights()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.eval().requires_grad_(False)
    export_folder(model, 'open_clip', tmp_path / 'a')
    theirs = open_clip.create_model(f'local-dir:{tmp_path / "a"}').eval()
    ids = torch.randint(3, 50, (3, 12))
    ids[:, 7] = 2
    images = torch.randn(2, 3, *model.image_encoder.img_size)
    expected = model.encode_image(images), model.encode_text(ids)
    assert_equal((theirs.encode_image(images, normalize=True), theirs.encode_text(ids, normalize=True)), expected)
    back = from_pretrained(tmp_path / 'a').model
    assert_equal((back.encode_image(images), back.encode_text(ids)), expected)
    captions = ['w1 w2', 'w3']
    assert all(torch.equal(*pair) for pair in zip(back.tokenize(captions), model.tokenize(captions), strict=True))


def test_open_clip_lacks_relu_and_the_mean_of_words(tmp_path, tiny_model_cfg):
    for words, message in (
        (dict(activation='relu'), r'OpenCLIP has no text tower with ReLU\(\)'),
        (dict(pool='mean', causal=False), r"pools the mean of its words \(train with pool='max'\).*--to onnx"),
    ):
        config = tiny_model_cfg()
        config['text_encoder'].update(words)
        with pytest.raises(NotExpressible, match=message):
            export_folder(MODELS.build(config), 'open_clip', tmp_path / 'a')


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, build):
    (tmp_path / 'file').touch()
    with pytest.raises(FileExistsError, match='is not empty'):
        export_folder(build(), 'open_clip', tmp_path)


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
