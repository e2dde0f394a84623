"""Every word a query of its own, and the decision among them for each pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


class WordQueries:
    """SCLIP's decision (Wang et al., ECCV 2024): synonyms compete, the best speaks for its class.

    The probability of a word is its softmax over all words, of a class that of its best word. Where no class has at
    least ``threshold`` the background, class 0, is chosen. It may have words too: things that no class is. A class that
    is the best on few pixels of an image can be removed from it, as SCLIP does on VOC21 (``area_thd`` of its code).

    Args:
        classes: The words of each class, without a background.
        scale: Inverse temperature of the softmax. Defaults to 40.
        threshold: Probability below which a pixel is background. None, the default: there is no background.
        background: Words of the background. Defaults to none.
        min_area: Share of the pixels of all classes but the background; a class that is the best on no more of them is
            removed from the image. Defaults to 0: none is.

    Attributes:
        words: All words, those of the background first.
        num_classes: With the background.

    Raises:
        ValueError: If ``background`` has words, or ``min_area`` is positive, but ``threshold`` is None; or the
            threshold is not in (0, 1), or ``min_area`` not in [0, 1).
    """

    def __init__(
        self,
        classes: Sequence[Sequence[str]],
        scale: float = 40.0,
        threshold: float | None = None,
        background: Sequence[str] = (),
        min_area: float = 0.0,
    ) -> None:
        if background and threshold is None:
            raise ValueError(f'queries.background has {len(background)} words, but there is no queries.threshold')
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f'queries.threshold={threshold}: it is compared with probabilities, choose one in (0, 1)')
        if not 0 <= min_area < 1 or (min_area and threshold is None):
            raise ValueError(
                f'queries.min_area={min_area} with queries.threshold={threshold}: give a share in [0, 1) and a '
                'threshold, because what is removed becomes background'
            )
        self.scale, self.threshold, self.min_area = scale, threshold, min_area
        every = [tuple(background), *classes] if threshold is not None else list(classes)
        self.words = [word for words in every for word in words]
        self.num_classes = len(every)
        self._class = torch.tensor([index for index, words in enumerate(every) for _ in words])

    def choose(self, cosines: Tensor) -> Tensor:
        """The class (1, H, W) of each pixel, of the cosines (Q, H, W) with the words."""
        probabilities = (self.scale * cosines.float()).softmax(dim=0)
        index = self._class.to(cosines.device).view(-1, 1, 1).expand_as(probabilities)
        empty = probabilities.new_zeros(self.num_classes, *cosines.shape[1:])
        of_class = empty.scatter_reduce(0, index, probabilities, 'amax')  # (K, H, W)
        if self.min_area:
            of_class = self._without_small(of_class)
        best, chosen = of_class.max(dim=0, keepdim=True)
        return chosen if self.threshold is None else chosen.masked_fill(best < self.threshold, 0)

    def _without_small(self, probabilities: Tensor) -> Tensor:
        """Probabilities of classes (K, H, W), those of the removed ones zero."""
        areas = probabilities.argmax(dim=0).flatten().bincount(minlength=self.num_classes)[1:]  # (K - 1,)
        kept = areas > self.min_area * areas.sum()
        return probabilities * F.pad(kept, (1, 0), value=True)[:, None, None]
