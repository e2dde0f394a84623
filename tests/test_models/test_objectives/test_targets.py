import sys
import types

import numpy as np
import pytest
import torch
from mmpretrain.models.selfsup.cae import Conv2d, EncoderBlock
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import nn
from torch.nn import functional as F

from mmmaskclip.models.objectives.targets import DALLETokenizer, FrozenEncoder
from mmmaskclip.registry import MODELS

SMALL = dict(n_hid=8, n_blk_per_group=1, vocab_size=32)


@pytest.fixture
def tokenizer(small_tokenizer):
    return small_tokenizer


def test_published_size():
    with torch.device('meta'):
        tokenizer = DALLETokenizer()
    assert tokenizer.num_codes == 8192
    # OpenAI's encoder.pkl.
    assert sum(p.numel() for p in tokenizer.parameters()) == pytest.approx(53.8e6, rel=0.01)


def test_each_patch_becomes_a_token_of_the_resized_image(tokenizer):
    pixels = F.interpolate(torch.rand(2, 3, 16, 12), (64, 48))
    ids = tokenizer(pixels, (4, 3))
    assert ids.shape == (2, 12)
    assert ids.dtype == torch.int64
    assert len(ids.unique()) > 5
    resized = F.interpolate(pixels, (32, 24), mode='bilinear', antialias=True)
    logits = tokenizer.encoder(0.8 * resized + 0.1).numpy()
    np.testing.assert_array_equal(ids, logits.argmax(1).reshape(2, 12))


def test_tokens_are_in_patch_order(tokenizer):
    """An image whose right half is another one's has that one's tokens there, away from the border."""
    left, right = torch.rand(1, 3, 256, 256), torch.rand(1, 3, 256, 256)
    both = torch.cat((left[..., :128], right[..., 128:]), -1)
    grids = [tokenizer(image, (32, 32)).view(32, 32) for image in (left, right, both)]
    assert torch.equal(grids[2][:, :4], grids[0][:, :4])
    assert torch.equal(grids[2][:, -4:], grids[1][:, -4:])
    assert not torch.equal(grids[0], grids[1])


def test_it_is_frozen_and_autocast_changes_no_token(tokenizer):
    pixels = torch.rand(2, 3, 32, 32).requires_grad_()
    expected = tokenizer.train()(pixels, (4, 4))
    assert not any(module.training for module in tokenizer.modules())
    assert not any(p.requires_grad for p in tokenizer.parameters())
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(tokenizer(pixels, (4, 4)), expected)


def test_weights_from_a_state_dict(tokenizer, tmp_path):
    torch.save(tokenizer.encoder.state_dict(), tmp_path / 'dalle.pth')
    other = DALLETokenizer(str(tmp_path / 'dalle.pth'), SMALL)
    assert not torch.equal(other.encoder.blocks.input.w, tokenizer.encoder.blocks.input.w)
    other.init_weights()
    torch.testing.assert_close(other.state_dict(), tokenizer.state_dict(), rtol=0, atol=0)


@pytest.fixture
def openai_file(tokenizer, tmp_path, monkeypatch):
    """A function that writes a whole pickled module of package ``dall_e``, the form of OpenAI's encoder.pkl."""

    class Encoder(nn.Module):
        def __init__(self, **attributes):
            super().__init__()
            self.device = torch.device('cpu')
            self.blocks = tokenizer.encoder.blocks
            vars(self).update(attributes)

    Encoder.__qualname__ = 'Encoder'
    module = types.ModuleType('dall_e.encoder')
    for cls in (Encoder, Conv2d, EncoderBlock):
        monkeypatch.setattr(cls, '__module__', 'dall_e.encoder')
        setattr(module, cls.__name__, cls)

    def write(**attributes):
        monkeypatch.setitem(sys.modules, 'dall_e', types.ModuleType('dall_e'))
        monkeypatch.setitem(sys.modules, 'dall_e.encoder', module)
        torch.save(Encoder(**attributes), tmp_path / 'encoder.pkl')
        monkeypatch.delitem(sys.modules, 'dall_e.encoder')
        monkeypatch.delitem(sys.modules, 'dall_e')
        return str(tmp_path / 'encoder.pkl')

    return write


def test_weights_from_openais_pickled_module_without_its_package(tokenizer, openai_file):
    other = DALLETokenizer(openai_file(), SMALL)
    other.init_weights()
    torch.testing.assert_close(other.state_dict(), tokenizer.state_dict(), rtol=0, atol=0)


class _Malicious:
    def __reduce__(self):
        return (print, ('executed',))


def test_nothing_in_a_pickled_module_is_executed(openai_file, capsys):
    with pytest.raises(ValueError, match='could run code'):
        DALLETokenizer(openai_file(extra=_Malicious()), SMALL).init_weights()
    assert 'executed' not in capsys.readouterr().out


@pytest.mark.parametrize(
    ('path', 'error', 'message'),
    [(None, ValueError, 'has no checkpoint'), ('gone.pkl', FileNotFoundError, "There is no tokenizer 'gone.pkl'")],
)
def test_missing_weights_say_where_to_get_them(path, error, message):
    tokenizer = DALLETokenizer(path, SMALL)
    with pytest.raises(error, match=f'{message}: download https://cdn.openai.com/dall-e/encoder.pkl'):
        tokenizer.init_weights()


def test_other_weights_are_named(tmp_path):
    torch.save(dict(weight=torch.zeros(1)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match='does not fit the encoder of DALL-E: .*blocks'):
        DALLETokenizer(str(tmp_path / 'other.pth'), SMALL).init_weights()


@pytest.fixture
def encoder(tiny_model_cfg):
    return tiny_model_cfg()['image_encoder']


def test_no_checkpoint_is_explained_when_weights_are_needed(encoder):
    teacher = FrozenEncoder(encoder)
    with pytest.raises(ValueError, match='set frozen.checkpoint to a checkpoint of the first stage'):
        teacher.init_weights()


def test_missing_file_is_named(encoder):
    with pytest.raises(FileNotFoundError, match='gone.pth'):
        FrozenEncoder(encoder, 'gone.pth').init_weights()


def test_checkpoint_without_an_image_tower_is_named(encoder, tmp_path):
    torch.save(dict(backbone=torch.zeros(1)), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match="Nothing in .*other.pth.* under the prefix 'image_encoder.'"):
        FrozenEncoder(encoder, str(tmp_path / 'other.pth')).init_weights()


def test_checkpoint_of_another_tower_is_named(encoder, tiny_model_cfg, tmp_path):
    torch.save(MODELS.build(tiny_model_cfg()).state_dict(), tmp_path / 'first.pth')
    encoder['arch'] = dict(encoder['arch'], num_layers=3)
    with pytest.raises(ValueError, match=r'layers\.2.* are missing and would stay random'):
        FrozenEncoder(encoder, str(tmp_path / 'first.pth')).init_weights()


def test_a_clip_of_another_library_is_a_teacher(encoder, tmp_path):
    """Its weights are translated, as everywhere."""
    encoder.update(pre_norm=True, norm_cfg=dict(type='LN', eps=1e-5))
    image = CLIPVisionCfg(layers=2, width=32, head_width=16, mlp_ratio=2.0, patch_size=8, image_size=32)
    theirs = CLIP(16, image, CLIPTextCfg(width=32, heads=2, layers=1))
    torch.save(theirs.state_dict(), tmp_path / 'open_clip.pt')
    teacher = FrozenEncoder(encoder, str(tmp_path / 'open_clip.pt'))
    teacher.init_weights()
    assert torch.equal(teacher.encoder.pos_embed[0], theirs.visual.positional_embedding)
