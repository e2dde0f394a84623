"""Captions that fill the text tower are counted and said."""

from types import SimpleNamespace

import pytest
import torch

from mmmaskclip.engine import LongCaptionsHook


def epoch(batches, length=5, tower=True):
    said = []
    model = torch.nn.ModuleDict({'text_encoder': torch.nn.Identity()} if tower else {})
    model.context_length = length
    runner = SimpleNamespace(model=model, logger=SimpleNamespace(warning=said.append))
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
    tower = SimpleNamespace(tokenizer=dict(pad_id=1))
    assert epoch([[[8, 2, 2, 2, 9], [8, 2, 9, 1, 1]]], tower=tower)[0].startswith('1 of 2')


def test_says_nothing_of_images_alone():
    assert not epoch([None, None])
    assert not epoch([[[8, 1, 1, 1, 9]]], tower=None)
