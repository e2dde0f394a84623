import pytest
import torch

from mmmaskclip.models.objectives.targets import DALLETokenizer


@pytest.fixture
def small_tokenizer() -> DALLETokenizer:
    """A random tokenizer with 32 tokens, all of them in use."""
    tokenizer = DALLETokenizer(encoder=dict(n_hid=8, n_blk_per_group=1, vocab_size=32))
    encoder = tokenizer.encoder
    # Without this, one token would win nearly everywhere.
    logits = encoder(0.8 * torch.rand(8, 3, 32, 32) + 0.1)
    encoder.blocks.output.conv.b -= logits.mean((0, 2, 3))
    return tokenizer
