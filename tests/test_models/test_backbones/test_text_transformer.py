import pytest
import torch

from mmmaskclip.models.backbones import CLIPTextTransformer, packed_captions


@pytest.fixture
def tower():
    tower = CLIPTextTransformer(width=16, num_layers=3, num_heads=2, vocab_size=100, context_length=20)
    tower.init_weights()
    return tower.eval()


def _captions():
    tokens = torch.zeros(3, 20, dtype=torch.int32)
    for row, length in enumerate((4, 9, 6)):
        tokens[row, : length - 1] = torch.randint(1, 98, (length - 1,))
        tokens[row, length - 1] = 99
    return tokens


def test_stopping_at_the_longest_caption_is_exact(tower):
    tokens = _captions()
    torch.testing.assert_close(tower(tokens[:, :9]), tower(tokens), rtol=1e-5, atol=1e-6)


def test_stopping_earlier_would_not_be(tower):
    tokens = _captions()
    assert not torch.allclose(tower(tokens[:, :8])[1], tower(tokens)[1])


def test_causal(tower):
    tokens = _captions()
    changed = tokens.clone()
    changed[1, 5] = 50 if tokens[1, 5] != 50 else 51
    before, after = tower.encode(tower.embed(tokens))[1], tower.encode(tower.embed(changed))[1]
    torch.testing.assert_close(after[:5], before[:5])
    assert not torch.allclose(after[5:9], before[5:9])


def test_captions_longer_than_the_context_are_refused(tower):
    with pytest.raises(ValueError, match='captions of 21 tokens, but context_length=20'):
        tower(torch.ones(1, 21, dtype=torch.int32))


def test_clip_parameter_count():
    with torch.device('meta'):
        tower = CLIPTextTransformer()
    # CLIP ViT-B's text tower: 63.4 M with its 512 x 512 projection (OpenCLIP's model profile).
    assert (sum(p.numel() for p in tower.parameters()) + 512 * 512) / 1e6 == pytest.approx(63.43, abs=0.01)


def _pair():
    """A padded and a packed tower of the same weights, and captions of 2 to 9 words."""
    towers = [CLIPTextTransformer(width=16, num_layers=2, num_heads=2, vocab_size=100, packed=p) for p in (False, True)]
    towers[0].init_weights()
    towers[1].load_state_dict(towers[0].state_dict())
    word_ids = torch.randint(1, 98, (4, 9))
    for row, end in enumerate((1, 8, 4, 2)):
        word_ids[row, end], word_ids[row, end + 1 :] = 99, 0
    return *towers, word_ids


def test_packed_captions_equal_padded_ones_to_rounding():
    results = []
    padded, packed, word_ids = _pair()
    for tower in (padded, packed):
        features = tower(word_ids)
        (features * torch.arange(16)).sum().backward()
        results.append([features, *(p.grad for p in tower.parameters())])
    torch.testing.assert_close(results[1], results[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(packed(word_ids, [1, 8, 4, 2]), results[1][0], rtol=0, atol=0)


def test_packed_captions_do_not_see_each_other_and_padding_is_not_computed():
    _, packed, word_ids = _pair()
    rows = []
    packed.layers[0].ffn.layers.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    before = packed(word_ids)
    word_ids[1, 1:8] = 50
    after = packed(word_ids)
    torch.testing.assert_close(after[[0, 2, 3]], before[[0, 2, 3]], rtol=0, atol=0)
    assert not torch.allclose(after[1], before[1])
    assert rows == [2 + 9 + 5 + 3] * 2


def _varlen(q, k, v, begins, _, longest, __, window_size):
    """What torch's kernel computes on a GPU: (P, H, D) each, caption by caption."""
    assert window_size in ((-1, 0), (-1, -1))
    assert begins.dtype == torch.int32
    ends = begins[1:].tolist()
    assert longest >= max(end - begin for begin, end in zip(begins.tolist(), ends, strict=False))
    rows = []
    for begin, end in zip(begins.tolist(), ends, strict=False):
        parts = [part[begin:end].transpose(0, 1) for part in (q, k, v)]  # (H, L, D)
        rows.append(
            torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=window_size[1] == 0).transpose(0, 1)
        )
    return torch.cat(rows)


def test_attention_without_padding_equals_the_padded_tower(monkeypatch):
    padded, packed, word_ids = _pair()
    monkeypatch.setattr(packed_captions, 'has_varlen', lambda words: True)
    monkeypatch.setattr(packed_captions, 'varlen_attn', _varlen)
    results = []
    for tower in (padded.double(), packed.double()):  # where rounding does not hide a fault
        features = tower(word_ids, [1, 8, 4, 2])
        (features * torch.arange(16)).sum().backward()
        results.append([features, *(p.grad for p in tower.parameters())])
    torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ('capability', 'dtype', 'expected'),
    [((9, 0), torch.bfloat16, True), ((7, 5), torch.float16, False), ((8, 0), torch.float32, False)],
)
def test_varlen_is_chosen_by_device_and_precision(monkeypatch, capability, dtype, expected):
    class Words:
        is_cuda, device = True, 'cuda:0'

    Words.dtype = dtype
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: capability)
    monkeypatch.setattr(packed_captions, 'varlen_attn', _varlen)
    assert packed_captions.has_varlen(Words) is expected
    assert not packed_captions.has_varlen(torch.zeros(2, dtype=torch.bfloat16))
    monkeypatch.setattr(packed_captions, 'varlen_attn', None)
    assert not packed_captions.has_varlen(Words)


@pytest.mark.parametrize('causal', [True, False])
def test_packed_attention_with_and_without_the_kernel_are_equal(monkeypatch, causal):
    monkeypatch.setattr(packed_captions, 'varlen_attn', _varlen)
    qkv = torch.randn(2 + 9 + 5, 3 * 8, dtype=torch.double)
    places = torch.tensor([*range(2), *range(9, 18), *range(18, 23)])
    padded = packed_captions.attend_packed(qkv, 2, places, None, 3, 9, causal)
    kernel = packed_captions.attend_packed(qkv, 2, None, torch.tensor([0, 2, 11, 16], dtype=torch.int32), 3, 20, causal)
    torch.testing.assert_close(padded, kernel, rtol=1e-9, atol=1e-9)
