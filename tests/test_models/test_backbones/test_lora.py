"""Adapters: they start as the tower, are all that learns of it, and merged weights compute the same."""

import pytest
import torch
from paths import TOOLS, load_module
from tiny_models import distillation, random_batch
from tiny_models import model as tiny_model

from mmmaskclip.checkpoints.adapters import is_adapter, merge_adapters
from mmmaskclip.checkpoints.files import write_checkpoint
from mmmaskclip.checkpoints.safe_load import read_checkpoint
from mmmaskclip.checkpoints.weights import load_all, load_what_fits
from mmmaskclip.models.from_pretrained import from_pretrained
from mmmaskclip.registry import MODELS

BOTH = dict(image_encoder=dict(rank=2, alpha=3.0), text_encoder=dict(rank=3))
TOOL = load_module(TOOLS / 'model_converters/merge_lora.py')


def build(lora=None, moved=False, **options):
    """A tiny model; ``moved``: with adapters that are not zero any more."""
    torch.manual_seed(0)
    model = MODELS.build({**tiny_model(**options), 'lora': lora})
    model.init_weights()
    if moved:
        for name, parameter in model.named_parameters():
            if name.endswith('lora_up'):
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def embeds(model):
    batch = model.data_preprocessor(random_batch(3))
    with torch.no_grad():
        visible = model.image_encoder.encode(model.image_encoder.embed(batch['image'])[0], torch.tensor([[0, 3]] * 3))
        dense = model.encode_dense(batch['image'], 'value')
    return {**model(mode='tensor', **batch), 'visible': visible.cls, 'dense': dense}


def test_start_is_the_tower_without_adapters():
    plain, adapted = build(), build(BOTH)
    load_what_fits(adapted, plain.state_dict(), 'a.pth')
    for name, value in embeds(plain).items():
        assert torch.equal(embeds(adapted)[name], value), name
    # A file without adapters is whole for a model that has them: they are zero.
    load_all(build(BOTH), plain.state_dict(), 'a.pth')


@pytest.mark.parametrize('lora', [BOTH, dict(image_encoder=dict(rank=4, layers=['qkv']))])
def test_merged_weights_compute_the_same(lora):
    adapted = build(lora, moved=True)
    merged, start = build(), embeds(build())
    load_all(merged, adapted.state_dict(), 'a.pth')
    assert not any(map(is_adapter, merged.state_dict()))
    for name, value in embeds(adapted).items():
        torch.testing.assert_close(embeds(merged)[name], value, rtol=0, atol=1e-5)
        assert name == 'text_embed' or not torch.allclose(value, start[name], atol=1e-3)


def test_queries_see_the_adapters():
    adapted = build(dict(image_encoder=dict(rank=2)), moved=True)
    block, tokens = adapted.image_encoder.layers[0], torch.randn(2, 5, 32)
    chosen = torch.tensor([[1, 4], [0, 2]])
    expected = block(tokens).gather(1, chosen.unsqueeze(-1).expand(-1, -1, 32))
    torch.testing.assert_close(block(tokens, chosen), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('lora', [BOTH, dict(text_encoder=dict(rank=1))])
def test_of_an_adapted_tower_adapters_alone_learn(lora):
    model = build(lora).train()
    model(mode='loss', **model.data_preprocessor(random_batch(4)))['contrast_loss'].backward()
    for name, parameter in model.named_parameters():
        tower = name.split('.')[0]
        assert (parameter.grad is not None) == (tower not in lora or is_adapter(name)), name
    names = [name for name in model.state_dict() if name.startswith('text_encoder') and is_adapter(name)]
    assert len(names) == 3 * 2 * 4


def test_teacher_follows_adapters():
    model = build(BOTH, objectives=dict(distillation=distillation('v1'), contrast=dict(type='ImageTextContrast')))
    source = model.image_encoder.layers[0].attn.qkv
    source.lora_up.data += 1
    model.after_optimizer_step()
    copy = model.teacher.module.layers[0].attn.qkv
    torch.testing.assert_close(copy.lora_up, torch.full_like(copy.lora_up, 0.001))
    assert torch.equal(copy.weight, source.weight)


def test_layer_decay_reaches_adapters():
    from mmmaskclip.engine.optimizers.layer_decay_constructor import depth_by_name

    depth = depth_by_name(build(BOTH).image_encoder, 'image_encoder.')
    assert (
        depth('image_encoder.layers.1.attn.qkv.lora_down') == depth('image_encoder.layers.1.attn.qkv.weight') == (2, 4)
    )


@pytest.mark.parametrize(
    ('lora', 'message'),
    [
        (dict(image_encoder=dict(rank=0)), r'lora\.image_encoder\.rank=0'),
        (dict(image_encoder=dict(layers='qkv')), r"lora\.image_encoder\.layers='qkv': give a list"),
        (dict(backbone=dict()), r"lora has 'backbone'"),
    ],
)
def test_mistakes_are_named(lora, message):
    with pytest.raises(ValueError, match=message):
        build(lora)


def test_locked_towers_and_other_towers_are_refused():
    cfg = tiny_model()
    cfg['text_encoder']['frozen'] = True
    with pytest.raises(ValueError, match='text_encoder is locked .* and has lora'):
        MODELS.build({**cfg, 'lora': BOTH})
    cfg['image_encoder'] = dict(type='WholeImageTower', backbone=dict(type='mmpretrain.ResNet', depth=18), size=32)
    cfg['image_encoder'] = dict(type='mmpretrain.ResNet', depth=18)
    with pytest.raises(ValueError, match='ResNet has no blocks of ours'):
        MODELS.build({**cfg, 'lora': dict(image_encoder=dict(rank=2))})


def test_tool_writes_a_model_without_adapters(tmp_path, capsys):
    adapted = build(BOTH, moved=True)
    cfg = {**tiny_model(), 'lora': BOTH}
    write_checkpoint(
        tmp_path / 'a.pth', {'state_dict': adapted.state_dict(), 'meta': {'cfg': f'model = {cfg!r}\nx = 1\n'}}
    )
    TOOL.main([str(tmp_path / 'a.pth'), str(tmp_path / 'b.pth')])
    assert 'tensors of adapters merged' in capsys.readouterr().out
    assert not any(map(is_adapter, read_checkpoint(tmp_path / 'b.pth')['state_dict']))
    merged = from_pretrained(tmp_path / 'b.pth')
    assert 'lora' not in merged.config
    for name, value in embeds(adapted).items():
        torch.testing.assert_close(embeds(merged.model)[name], value, rtol=0, atol=1e-5)
    torch.testing.assert_close(embeds(from_pretrained(tmp_path / 'a.pth').model), embeds(adapted), rtol=0, atol=0)
    with pytest.raises(SystemExit):
        TOOL.main([str(tmp_path / 'b.pth'), str(tmp_path / 'c.pth')])


def test_half_an_adapter_is_named():
    state = build(BOTH).state_dict()
    del state['text_encoder.layers.0.attn.qkv.lora_down']
    with pytest.raises(ValueError, match=r'adapter of text_encoder\.layers\.0\.attn\.qkv lacks .*lora_down'):
        merge_adapters(state)
