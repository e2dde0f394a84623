"""Every word a query of its own, and the decision among them for each pixel."""

from collections.abc import Sequence

import torch
from torch import Tensor


class WordQueries:
    """SCLIP's decision (Wang et al., ECCV 2024): synonyms compete, the best speaks for its class.

    The probability of a word is its softmax over all words, of a class that of its best word. Where no class has at
    least ``threshold`` the background, class 0, is chosen. It may have words too: things that no class is.

    Args:
        classes: The words of each class, without a background.
        scale: Inverse temperature of the softmax. Defaults to 40.
        threshold: Probability below which a pixel is background. None, the default: there is no background.
        background: Words of the background. Defaults to none.

    Attributes:
        words: All words, those of the background first.
        num_classes: With the background.

    Raises:
        ValueError: If ``background`` has words, but ``threshold`` is None; or the threshold is not in (0, 1).
    """

    def __init__(
        self,
        classes: Sequence[Sequence[str]],
        scale: float = 40.0,
        threshold: float | None = None,
        background: Sequence[str] = (),
    ) -> None:
        if background and threshold is None:
            raise ValueError(f'queries.background has {len(background)} words, but there is no queries.threshold')
        if threshold is not None and not 0 < threshold < 1:
            raise ValueError(f'queries.threshold={threshold}: it is compared with probabilities, choose one in (0, 1)')
        self.scale, self.threshold = scale, threshold
        every = [tuple(background), *classes] if threshold is not None else list(classes)
        self.words = [word for words in every for word in words]
        self.num_classes = len(every)
        self._class = torch.tensor([index for index, words in enumerate(every) for _ in words])

    def choose(self, cosines: Tensor) -> Tensor:
        """The class (1, H, W) of each pixel, of the cosines (Q, H, W) with the words."""
        probabilities = (self.scale * cosines.float()).softmax(dim=0)
        index = self._class.to(cosines.device).view(-1, 1, 1).expand_as(probabilities)
        empty = probabilities.new_zeros(self.num_classes, *cosines.shape[1:])
        best, chosen = empty.scatter_reduce(0, index, probabilities, 'amax').max(dim=0, keepdim=True)
        return chosen if self.threshold is None else chosen.masked_fill(best < self.threshold, 0)
