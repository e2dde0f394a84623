"""Region and pointing accuracy: which word fits a region best, and does a word's maximum fall into its object?"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.datasets.prompts import ClassPrompts
from mmmaskclip.evaluation.prompted_metric import DensePromptedMetric
from mmmaskclip.evaluation.scores import label_ranks, top_k
from mmmaskclip.models.backbones.read_outs import ReadOut
from mmmaskclip.models.open_vocabulary.dense_similarity import dense_similarity, upsample_patches
from mmmaskclip.registry import METRICS


@METRICS.register_module()
class RegionAccuracy(DensePromptedMetric):
    """Zero-shot classification of regions by their patches, and the pointing game.

    A region's embedding is a weighted mean of patch embeddings, as CLIPSelf pools boxes and masks (Wu et al., ICLR
    2024, Table 1). The weight of a patch is the share of its area that lies in the region. Reported in percent for each
    kind of region: ``boxes_top1`` and, with more than 5 classes, ``boxes_top5``, and so on.

    The pointing game looks at every class of every image: it finds the pixel with the largest similarity to the class.
    ``pointing`` is the percentage of such pixels that lie in a region of the class.

    A sample brings its regions as ``regions`` (see :class:`~mmmaskclip.datasets.evaluation.CocoRegions` and
    :class:`~mmmaskclip.datasets.evaluation.PanopticRegions`). Of a sample with a ``mask``, the pixels of each class are
    one region of the kind ``masks``.

    The arguments are those of :class:`DensePromptedMetric`. ``classes`` defaults to None: the classes of the data set.
    Pixels with the mask value ``ignore_index`` belong to no region.
    """

    default_prefix = 'regions'

    def __init__(
        self,
        classes: str | Sequence[str | Sequence[str]] | None = None,
        templates: str | Sequence[str] | None = None,
        read_out: ReadOut = 'patch',
        ignore_index: int = 255,
        collect_device: str = 'gpu',
        prefix: str | None = None,
    ) -> None:
        # The data set's class names are known only in `check_data`. With a placeholder the templates are checked here.
        super().__init__(
            ['object'] if classes is None else classes, templates, read_out, ignore_index, collect_device, prefix
        )
        self._templates_for_data = templates if classes is None else None

    def check_data(self, dataset: Any) -> None:
        """Take the classes of the data set, or compare them with the metric's.

        Args:
            dataset: Not used: the loop has set ``dataset_meta``.

        Raises:
            ValueError: If data set and metric name different classes, or the same in another order; or if neither
                names any.
        """
        named = (self.dataset_meta or {}).get('classes')
        if self._templates_for_data is not None:
            if named is None:
                raise ValueError('the data set does not name its classes: give RegionAccuracy.classes')
            self.prompts = ClassPrompts(list(named), self._templates_for_data)
        prompted = [names[0] for names in self.prompts.classes]
        if named is not None and list(named) != prompted:
            raise ValueError(
                f'the data set has the classes {", ".join(map(str, named[:5]))}, ..., this metric '
                f'{", ".join(prompted[:5])}, ...: give both the same names in the same order'
            )

    def prepare(self, model: nn.Module) -> None:
        """Encode the class prompts, as :class:`DensePromptedMetric`; without a loop the data set is checked here."""
        self.check_data(None)
        super().prepare(model)

    @torch.no_grad()
    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Rank the right class of each region of one batch.

        Args:
            data_batch: ``image`` uint8 (B, 3, H, W) and optionally ``key``. Also ``regions``, for each image a list of
                dicts with ``kind``, ``label`` and ``mask`` (bool, of any size, laid over the image); or ``mask`` uint8
                (B, H', W').
            data_samples: Not used: they hold one embedding per image.

        Raises:
            RuntimeError: If ``prepare`` was not called.
            ValueError: If there are no regions, a label is no class, or embeddings are not finite.
        """
        num_classes = len(self.prepared())
        patch_embeds, fraction = self.encode_patches(data_batch)  # (B, D, h, w)
        keys = data_batch.get('key', range(len(patch_embeds)))
        for index, embeds in enumerate(patch_embeds):
            regions = self._regions(data_batch, index)
            for region in regions:
                if not 0 <= region['label'] < num_classes:
                    raise ValueError(
                        f'sample {keys[index]!r} has a region of the label {region["label"]}, but there are '
                        f'{num_classes} classes: the class list does not belong to this data set'
                    )
            self.results.append([*self._ranks(embeds, regions, fraction), *self._points(embeds, regions, fraction)])

    def compute_metrics(self, results: list[list[tuple[str, int]]]) -> dict[str, float]:
        """Accuracies in percent over all regions.

        Args:
            results: For each image pairs of a kind of region and the rank of its class; 0 is first. The kind
                ``pointing`` has 0 for a hit and 1 for a miss.

        Returns:
            The metrics by name, see the class. A kind without any region is left out.
        """
        ranks: dict[str, list[int]] = defaultdict(list)
        for kind, rank in (pair for of_image in results for pair in of_image):
            ranks[kind].append(rank)
        metrics = {'pointing': top_k(np.array(ranks.pop('pointing')), 1)} if 'pointing' in ranks else {}
        for kind, found in sorted(ranks.items()):
            metrics[f'{kind}_top1'] = top_k(np.array(found), 1)
            if len(self.prompts.classes) > 5:
                metrics[f'{kind}_top5'] = top_k(np.array(found), 5)
        return metrics

    def _regions(self, batch: dict, index: int) -> list[dict]:
        if 'regions' in batch:
            return batch['regions'][index]
        if 'mask' not in batch:
            raise ValueError(f'regions or a mask are needed for each image, the data set gives {sorted(batch)}')
        mask = batch['mask'][index].cpu()
        labels = [label for label in mask.unique().tolist() if label != self.ignore_index]
        return [dict(kind='masks', label=label, mask=(mask == label).numpy()) for label in labels]

    def _ranks(self, embeds: Tensor, regions: Sequence[dict], fraction: tuple[float, float]) -> list[tuple[str, int]]:
        """Kind and rank of each region of an image with patch embeddings (D, h, w)."""
        if not regions:
            return []
        weights = torch.stack([coverage(region['mask'], embeds.shape[1:], fraction) for region in regions])
        pooled = torch.einsum('rhw,dhw->rd', weights.to(embeds.device), embeds.float())
        # Scores in float64, rounded to float32: the order then does not depend on the kernel.
        scores = (F.normalize(pooled.double(), dim=-1) @ self.prepared().double().T).float()
        ranks = label_ranks(scores, torch.tensor([region['label'] for region in regions]))
        return [(region['kind'], rank) for region, rank in zip(regions, ranks.tolist(), strict=True)]

    def _points(self, embeds: Tensor, regions: Sequence[dict], fraction: tuple[float, float]) -> list[tuple[str, int]]:
        """A hit (0) or miss (1) for each class in an image; boxes count only where there are no masks."""
        places: dict[int, np.ndarray] = {}
        masks = [region for region in regions if region['kind'] != 'boxes'] or regions
        for region in masks:
            known = places.get(region['label'])
            places[region['label']] = region['mask'] if known is None else known | region['mask']
        hits = []
        for label, place in places.items():
            similarity = dense_similarity(embeds[None], self.prepared()[label : label + 1])
            best = int(upsample_patches(similarity, place.shape, fraction)[0, 0].argmax())
            hits.append(('pointing', int(not place.flat[best])))
        return hits


def coverage(mask: np.ndarray, grid: Sequence[int], fraction: Sequence[float] = (1.0, 1.0)) -> Tensor:
    """Share of each patch's area that lies in a region.

    Args:
        mask: bool (H, W), laid over the image.
        grid: Rows h and columns w of the patches.
        fraction: Fraction of the patch grid that the image fills. Defaults to all of it.

    Returns:
        float32 (h, w). Padding belongs to no region.
    """
    height, width = (round(side / part) for side, part in zip(mask.shape, fraction, strict=True))
    padded = F.pad(torch.from_numpy(mask).float(), (0, width - mask.shape[1], 0, height - mask.shape[0]))
    return F.interpolate(padded[None, None], size=tuple(grid), mode='area')[0, 0]
