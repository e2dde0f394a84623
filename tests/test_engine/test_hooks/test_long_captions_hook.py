"""Captions that fill the text tower are counted and said."""

from types import SimpleNamespace

import pytest
import torch

from mmmaskclip.engine import LongCaptionsHook
from mmmaskclip.models.backbones import CLIPTextTransformer


class Model(torch.nn.Module):
    """A model with a text tower, or without."""

    def __init__(self, length, tokenizer=None, tower=True):
        super().__init__()
        sizes = dict(width=4, num_layers=1, num_heads=1, vocab_size=10)
        self.text_encoder = CLIPTextTransformer(**sizes, context_length=length, tokenizer=tokenizer) if tower else None
        self.context_length = length


def epoch(batches, length=5, **options):
    said = []
    runner = SimpleNamespace(model=Model(length, **options), logger=SimpleNamespace(warning=said.append))
    hook = LongCaptionsHook()
    hook.before_train_epoch(runner)
    for index, tokens in enumerate(batches):
        hook.after_train_iter(runner, index, {'tokens': torch.tensor(tokens)} if tokens else {})
    hook.after_train_epoch(runner)
    return said


def test_counts_full_captions():
    (text,) = epoch([[[8, 1, 1, 1, 9], [8, 1, 9, 0, 0]], [[8, 1, 9], [8, 1, 9]], [[8, 2, 2, 2, 9], [8, 0, 0, 0, 9]]])
    assert text.startswith('3 of 6 captions of this epoch (50.0%) fill all 5 tokens')
    assert 'stretch_positions=True' in text


@pytest.mark.parametrize('batches', [[[[8, 1, 9, 0, 0]]], [[[8, 9]]]])
def test_says_nothing_where_all_are_shorter(batches):
    assert not epoch(batches)


def test_padding_is_that_of_the_tokenizer():
    tokenizer = dict(file='tokenizer.json', pad_id=1)
    assert epoch([[[8, 2, 2, 2, 9], [8, 2, 9, 1, 1]]], tokenizer=tokenizer)[0].startswith('1 of 2')


def test_says_nothing_of_images_alone():
    assert not epoch([None, None])
    assert not epoch([[[8, 1, 1, 1, 9]]], tower=False)
