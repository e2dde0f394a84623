"""Retrieval against a NumPy reference that sorts the whole matrix."""

import numpy as np
import pytest
import torch
from clip_benchmark.metrics import zeroshot_retrieval as clip_benchmark
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


def test_nan_is_not_the_best_answer():
    images, texts, owner = random_embeddings(4, 2)
    for part, sample in ((images, 2), (texts, 5)):
        part[sample] = np.nan
        with pytest.raises(ValueError, match='for sample 2 is not finite'):
            RetrievalRecall().process(None, samples(images, texts, owner))
        with pytest.raises(ValueError, match=f'for sample {sample} is not finite'):
            retrieval_ranks(*map(torch.from_numpy, (images, texts, owner)))
        part[sample] = 0


def test_equals_clip_benchmark():
    images, texts, owner = random_embeddings(50, 5)
    metric = RetrievalRecall(topk=(1, 5, 10), block=64)
    metric.process(None, samples(images, texts, owner))

    class Model:
        encode_image = encode_text = staticmethod(lambda embeds: embeds)

    # A batch as its loader gives it: images, and for each image the list of its texts; "tokenized" they are embeddings.
    data = [(torch.from_numpy(images), [list(texts[owner == index]) for index in range(50)])]
    recalls = clip_benchmark.evaluate(
        Model, data, lambda texts: torch.tensor(np.stack(texts)), 'cpu', amp=False, recall_k_list=metric.topk
    )
    names = {'image_retrieval_recall': 'text_to_image_R', 'text_retrieval_recall': 'image_to_text_R'}
    expected = {
        f'{names[name]}@{k}': 100 * value for (name, k), value in ((n.split('@'), v) for n, v in recalls.items())
    }
    assert metric.compute_metrics(metric.results) == pytest.approx(expected, rel=1e-5)
    assert 0 < min(expected.values()) < max(expected.values()) < 100


class LargestTensor(TorchDispatchMode):
    """Notes the largest number of values that any operation gave."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        sizes = [value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor)]
        self.largest = max(self.largest, *sizes, 0)
        return result


def test_no_tensor_is_larger_than_the_embeddings_or_a_block():
    images, texts, owner = map(torch.from_numpy, random_embeddings(600, 2, dim=4))
    with LargestTensor() as seen:
        retrieval_ranks(images, texts, owner, block=128)
    assert seen.largest == 128 * 128  # 600 x 1200 scores, 1200 x 4 embeddings.


def test_first_captions_of_each_image():
    images, texts, owner = random_embeddings(20, [2, 3] * 10)
    first_two = np.concatenate([np.flatnonzero(owner == image)[:2] for image in range(20)])
    metric = RetrievalRecall(topk=(1,), captions_per_image=2, num_images=20)
    metric.process(None, samples(images, texts, owner))
    ranks = map(np.array, reference_ranks(images, texts[first_two], owner[first_two]))
    assert list(metric.compute_metrics(metric.results).values()) == [100 * (rank < 1).mean() for rank in ranks]


def test_too_few_captions_and_a_wrong_split_are_errors():
    images, texts, owner = random_embeddings(4, 2)
    with pytest.raises(ValueError, match='sample 0 has 2 captions, the protocol takes the first 5'):
        RetrievalRecall(captions_per_image=5).process(None, samples(images, texts, owner))
    metric = RetrievalRecall(num_images=1000)
    metric.process(None, samples(images, texts, owner))
    with pytest.raises(ValueError, match='4 images were evaluated, the protocol has 1000'):
        metric.evaluate(4)
