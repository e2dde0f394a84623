"""Retrieval against a NumPy reference that sorts the whole matrix."""

import numpy as np
import pytest
import torch

from mmmaskclip.evaluation import RetrievalRecall, retrieval_ranks
from mmmaskclip.registry import METRICS


def reference_ranks(images, texts, owner):
    scores = (images.astype(np.float64) @ texts.astype(np.float64).T).astype(np.float32)
    image_ranks, text_ranks = [], []
    for row, score in enumerate(scores):
        order = np.argsort(-score, kind='stable')
        image_ranks.append(min(rank for rank, text in enumerate(order) if owner[text] == row))
    for column, score in enumerate(scores.T):
        text_ranks.append(list(np.argsort(-score, kind='stable')).index(owner[column]))
    return image_ranks, text_ranks


def random_embeddings(num_images, counts, seed=0, dim=6):
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(num_images), counts)
    images = random.normal(size=(num_images, dim))
    texts = images[owner] + random.normal(size=(len(owner), dim))
    images, texts = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, texts))
    return images.astype(np.float32), texts.astype(np.float32), owner


def samples(images, texts, owner):
    texts = torch.from_numpy(texts)
    return [
        {'image_embed': torch.from_numpy(image), 'text_embeds': texts[torch.from_numpy(owner == index)], 'key': index}
        for index, image in enumerate(images)
    ]


@pytest.mark.parametrize('block', [1, 4, 7, 1000])
def test_ranks_equal_full_sort_in_any_block_size(block):
    images, texts, owner = random_embeddings(23, [1, 5, 2] * 7 + [3, 3])
    found = retrieval_ranks(*map(torch.from_numpy, (images, texts, owner)), block=block)
    expected = reference_ranks(images, texts, owner)
    assert [ranks.tolist() for ranks in found] == list(expected)
    assert max(expected[0]) > 0  # Not a trivial case.


@pytest.mark.parametrize('block', [3, 1000])
def test_equal_captions_tie_to_the_lower_index(block):
    images, texts, owner = random_embeddings(12, 2, dim=129)
    texts[9] = texts[4]
    texts[13] = texts[4]
    images[7] = images[2]
    found = retrieval_ranks(*map(torch.from_numpy, (images, texts, owner)), block=block)
    assert [ranks.tolist() for ranks in found] == list(reference_ranks(images, texts, owner))


def test_texts_need_not_be_in_the_images_order():
    images, texts, owner = random_embeddings(10, 3)
    order = np.random.default_rng(1).permutation(len(owner))
    found = retrieval_ranks(*map(torch.from_numpy, (images, texts[order], owner[order])), block=4)
    assert [ranks.tolist() for ranks in found] == list(reference_ranks(images, texts[order], owner[order]))


def test_collapsed_model_is_at_chance():
    metric = RetrievalRecall(topk=(1, 5))
    same = torch.nn.functional.normalize(torch.ones(1, 8), dim=-1)
    metric.process(None, [{'image_embed': same[0], 'text_embeds': same.repeat(2, 1), 'key': str(i)} for i in range(20)])
    found = metric.compute_metrics(metric.results)
    assert found['image_to_text_R@1'] == pytest.approx(100 / 20)
    assert found['text_to_image_R@5'] == pytest.approx(100 * 5 / 20)


def test_metric_over_several_batches():
    images, texts, owner = random_embeddings(30, [1, 2, 3] * 10)
    metric = METRICS.build(dict(type='RetrievalRecall', topk=(1, 3), block=8))
    given = samples(images, texts, owner)
    metric.process(None, given[:13])
    metric.process(None, given[13:])
    image_ranks, text_ranks = map(np.array, reference_ranks(images, texts, owner))
    assert metric.evaluate(30) == pytest.approx(
        {
            'retrieval/image_to_text_R@1': 100 * (image_ranks < 1).mean(),
            'retrieval/image_to_text_R@3': 100 * (image_ranks < 3).mean(),
            'retrieval/text_to_image_R@1': 100 * (text_ranks < 1).mean(),
            'retrieval/text_to_image_R@3': 100 * (text_ranks < 3).mean(),
        }
    )


def test_sample_without_caption_is_named():
    metric = RetrievalRecall()
    with pytest.raises(ValueError, match="'shard.tar/7' has no captions"):
        metric.process(None, [{'image_embed': torch.ones(4), 'key': 'shard.tar/7'}])


def test_image_without_text_is_an_error():
    with pytest.raises(ValueError, match='1 of 3 images have no text, first: image 1'):
        retrieval_ranks(torch.eye(3), torch.eye(3)[[0, 2]], torch.tensor([0, 2]))
