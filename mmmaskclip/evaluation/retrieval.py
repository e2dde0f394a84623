"""Image-text retrieval in both directions.

mmpretrain's RetrievalRecall does not scale to large sets: it loops over samples in Python, and needs one full row of
scores per sample.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from mmmaskclip.contracts import ListsCaptions
from mmmaskclip.evaluation.finite import check_finite
from mmmaskclip.evaluation.scores import ahead, top_k
from mmmaskclip.registry import METRICS


def retrieval_ranks(
    image_embeds: Tensor, text_embeds: Tensor, image_of_text: Tensor, block: int = 4096
) -> tuple[Tensor, Tensor]:
    """Ranks of the right answers in both directions, computed in blocks of the matrix of scores.

    Besides the embeddings, the function needs memory for a few blocks of ``block`` x ``block`` scores (4096: 128 MB in
    float64), whatever N and T are. Time grows with N x T x D.

    Scores are computed in float64 and rounded to float32. So equal pairs tie, whatever the block size or kernel. In a
    tie the lower index comes first: a model that gives all samples the same embedding gets chance, not 100 %.

    Args:
        image_embeds: (N, D).
        text_embeds: (T, D).
        image_of_text: (T,) index of each text's image; every image needs at least one text.
        block: Side of the largest block of scores held at once.

    Returns:
        Two int64 tensors of ranks, of which 0 is first. (N,): rank of each image's best text among all texts. (T,):
        rank of each text's image among all images.

    Raises:
        ValueError: If an image has no text, or an embedding is not finite.
    """
    check_finite(image_embeds, range(len(image_embeds)))
    check_finite(text_embeds, range(len(text_embeds)))
    num_images, num_texts = len(image_embeds), len(text_embeds)
    without = (torch.bincount(image_of_text, minlength=num_images) == 0).nonzero().flatten()
    if len(without):
        raise ValueError(f'{len(without)} of {num_images} images have no text, first: image {int(without[0])}')
    matching = torch.cat(
        [
            (image_embeds[owner].double() * texts.double()).sum(-1).float()
            for owner, texts in zip(image_of_text.split(block), text_embeds.split(block), strict=True)
        ]
    )
    best = matching.new_full((num_images,), -torch.inf).scatter_reduce(0, image_of_text, matching, 'amax')
    index = torch.arange(num_texts, device=matching.device)
    is_best = matching == best[image_of_text]
    best_text = index.new_full((num_images,), num_texts)
    best_text = best_text.scatter_reduce(0, image_of_text[is_best], index[is_best], 'amin')

    image_rank, text_rank = torch.zeros_like(best_text), torch.zeros_like(index)
    for top in range(0, num_images, block):
        rows = torch.arange(top, min(top + block, num_images), device=matching.device)
        images = image_embeds[top : top + block].double()
        for left in range(0, num_texts, block):
            columns = index[left : left + block]
            scores = (images @ text_embeds[left : left + block].double().T).float()
            # Another kernel computed the score of the pair itself. Write that score here, so that the pair ties with
            # itself and is never ranked before itself.
            mine = (image_of_text[columns] >= top) & (image_of_text[columns] < top + len(rows))
            scores[image_of_text[columns[mine]] - top, columns[mine] - left] = matching[columns[mine]]
            bar = best[rows, None]
            image_rank[rows] += ahead(scores, bar, columns < best_text[rows, None]).sum(1)
            text_rank[columns] += ahead(scores, matching[columns], rows[:, None] < image_of_text[columns]).sum(0)
    return image_rank, text_rank


@METRICS.register_module()
class RetrievalRecall(BaseMetric):
    """Recall at k of image-to-text and text-to-image retrieval (papers' protocol: Karpathy splits, cosine similarity).

    An image is a hit if any of its captions is among the first k of all captions. A caption is a hit if its image is
    among the first k of all images. Reported as ``image_to_text_R@k`` and ``text_to_image_R@k``, in percent.

    Args:
        topk: The values of k.
        captions_per_image: Take the first n captions of every image; an image with fewer is an error. The papers'
            protocol takes 5, although some images of COCO have 6 or 7. Default: all captions.
        num_images: Number of images that the split must have. Default: not checked.
        block: Side of the largest block of scores held at once.
        collect_device: How the processes exchange results. ``'gpu'`` gathers them in memory, for processes on CPUs too;
            mmengine's ``'cpu'`` needs a folder that all machines share.
        prefix: Prefix of the metric names; the loop sets the task's name.
    """

    default_prefix = 'retrieval'

    def __init__(
        self,
        topk: Sequence[int] = (1, 5, 10),
        captions_per_image: int | None = None,
        num_images: int | None = None,
        block: int = 4096,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = tuple(topk)
        self.captions_per_image = captions_per_image
        self.num_images = num_images
        self.block = block

    def check_data(self, dataset: Any) -> None:
        """Compare the data set with the protocol; warn of values of k that say nothing.

        Args:
            dataset: Has a length. Of a :class:`~mmmaskclip.contracts.ListsCaptions` the captions are counted too.

        Raises:
            ValueError: If there are not ``num_images`` images, or an image has no captions or fewer than
                ``captions_per_image``.
        """
        images = len(dataset)
        self._check_number(images, 'are in the data set')
        if isinstance(dataset, ListsCaptions):
            for name, captions in map(dataset.row, range(images)):
                self._check_captions(name, len(captions))
        if trivial := [k for k in self.topk if k >= images]:
            print_log(
                f'Retrieval among {images} images: R@{trivial[0]} from captions to images is 100 % for any model. Take '
                'more images, or leave the value out of topk.',
                logger='current',
                level=logging.WARNING,
            )

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the embeddings of one batch.

        Args:
            data_batch: Not used.
            data_samples: For each sample ``image_embed`` (D,) and ``text_embeds`` (n, D), L2-normalized.

        Raises:
            ValueError: If a sample has no captions, or fewer than ``captions_per_image``, or embeddings that are not
                finite.
        """
        captions = [self._captions(sample) for sample in data_samples]
        keys = [sample.get('key') for sample in data_samples]
        owners = [key for key, embeds in zip(keys, captions, strict=True) for _ in embeds]
        check_finite(torch.stack([sample['image_embed'] for sample in data_samples]), keys)
        check_finite(torch.cat(captions), owners)
        # One transfer each for the whole batch; numpy, because a pickled slice of a tensor carries the whole tensor.
        images = torch.stack([sample['image_embed'] for sample in data_samples]).float().cpu().numpy()
        texts = torch.cat(captions).float().cpu().numpy()
        ends = np.cumsum([len(embeds) for embeds in captions])[:-1]
        self.results.extend(zip(images, np.split(texts, ends), strict=True))

    def _captions(self, sample: dict) -> Tensor:
        embeds = sample.get('text_embeds', ())
        self._check_captions(sample.get('key'), len(embeds))
        return embeds[: self.captions_per_image]

    def _check_captions(self, key: Any, number: int) -> None:
        if number == 0:
            raise ValueError(
                f'sample {key!r} has no captions to retrieve: load captions in the dataset of this task, or remove the '
                'sample'
            )
        if number < (self.captions_per_image or 0):
            raise ValueError(
                f'sample {key!r} has {number} captions, the protocol takes the first {self.captions_per_image}: is it '
                'the right annotation file? Else change captions_per_image'
            )

    def _check_number(self, images: int, where: str) -> None:
        if self.num_images not in (None, images):
            raise ValueError(
                f'{images} images {where}, the protocol has {self.num_images}: correct the split or the annotation '
                'file, or set num_images of the evaluator to None or to your number'
            )

    def compute_metrics(self, results: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
        """Recalls in percent over all samples.

        Args:
            results: For each sample its image embedding (D,) and text embeddings (n, D).

        Returns:
            ``image_to_text_R@k`` and ``text_to_image_R@k`` for each k.

        Raises:
            ValueError: If there are not ``num_images`` images.
        """
        self._check_number(len(results), 'were evaluated')
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
        images = torch.from_numpy(np.stack([image for image, _ in results])).to(device)
        texts = torch.from_numpy(np.concatenate([texts for _, texts in results])).to(device)
        counts = torch.tensor([len(texts) for _, texts in results], device=device)
        image_of_text = torch.repeat_interleave(counts)
        ranks = retrieval_ranks(images, texts, image_of_text, self.block)
        return {
            f'{direction}_R@{k}': top_k(rank.cpu().numpy(), k)
            for direction, rank in zip(('image_to_text', 'text_to_image'), ranks, strict=True)
            for k in self.topk
        }
