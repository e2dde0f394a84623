"""Images and captions that a batch has twice are no negatives of each other."""

import pytest
import torch
from tiny_models import model as tiny_model
from tiny_models import random_batch

from mmmaskclip.models.losses import InfoNCELoss
from mmmaskclip.models.losses.pairs import gather_pairs
from mmmaskclip.models.objectives.noise import caption_ids
from mmmaskclip.registry import MODELS


def test_caption_ids_depend_on_words_and_their_order_alone():
    tokens = torch.tensor([[9, 4, 5, 99, 0], [9, 5, 4, 99, 0], [9, 4, 5, 99, 0], [9, 4, 99, 0, 0]])
    ids = caption_ids(tokens).tolist()
    assert ids[0] == ids[2]
    assert len({*ids}) == 3
    assert min(ids) >= 0
    assert caption_ids(torch.nn.functional.pad(tokens.int(), (0, 30))).tolist() == ids
    # The id 0 is a word too, "!", inside a caption.
    assert caption_ids(torch.tensor([[9, 0, 4, 99]])).tolist() != caption_ids(torch.tensor([[9, 4, 99, 0]])).tolist()


def test_caption_ids_do_not_collide():
    tokens = torch.cartesian_prod(*[torch.arange(1, 33)] * 3)
    assert len(caption_ids(tokens).unique()) == len(tokens)


def losses(batch, **options):
    torch.manual_seed(0)
    model = MODELS.build(tiny_model(dict(contrast=dict(type='ImageTextContrast', **options))))
    model.init_weights()
    data = model.data_preprocessor(batch)
    return model(mode='loss', **data)['contrast_loss'].item(), model(mode='tensor', **data)


@pytest.mark.parametrize(
    ('duplicates', 'labels'),
    [
        ((), None),
        (['caption'], [[0], [1], [2], [0]]),
        (['image'], [[0], [0], [1], [2]]),
        (['image', 'caption'], [[0, 0], [0, 1], [1, 2], [2, 0]]),
    ],
)
def test_objective_takes_the_keys_of_the_batch(duplicates, labels):
    batch = random_batch(4)
    batch['tokens'][3] = batch['tokens'][0]
    batch['image_id'] = torch.tensor([8, 8, 3, 1])
    found, embeds = losses(batch, duplicates=duplicates)
    keys = None if labels is None else torch.tensor(labels)
    (pairs,) = gather_pairs([embeds['image_embed']], embeds['text_embed'], True, keys)
    assert found == pytest.approx(InfoNCELoss()(pairs, torch.tensor(1 / 0.07)).item(), rel=1e-5)


def test_what_is_missing_or_unknown_is_named():
    with pytest.raises(KeyError, match="needs 'image_id', but the batch has only"):
        losses(random_batch(2), duplicates=['image'])
    with pytest.raises(ValueError, match="duplicates='image': give a list"):
        losses(random_batch(2), duplicates='image')
