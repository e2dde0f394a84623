"""MaskCLIP, CVPR version: predict hidden words of the caption."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.noise import TEXT_MASK_STREAM
from mmmaskclip.registry import MODELS


def choose_words(word_ids: Tensor, noise: Tensor, ratio: float) -> tuple[Tensor, Tensor]:
    """Choose the words to hide: max(1, round(ratio * words)) of each caption, uniformly; start, end, padding never.

    Args:
        word_ids: Captions (T, L): start, words, end (the highest id), padding.
        noise: Uniform noise (T, L); a word's number depends on its position and not on L, so neither does the choice.
        ratio: Share of words to hide.

    Returns:
        Positions (T, K), all different within a caption, and which of them are really hidden, bool (T, K). K is the
        most that a caption of L words could need, so that shapes depend on L alone and the host need not wait.
    """
    length = word_ids.shape[1]
    end = word_ids.argmax(dim=1, keepdim=True)
    place = torch.arange(length, device=word_ids.device)
    is_word = (place > 0) & (place < end)
    words = is_word.sum(dim=1, keepdim=True)
    count = (ratio * words).round().clamp(min=1).minimum(words)
    most_words = max(length - 2, 1)
    limit = min(int(ratio * most_words) + 1, most_words)
    positions = noise.masked_fill(~is_word, 1.0).argsort(dim=1, stable=True)[:, :limit]
    return positions, place[:limit] < count


def masked_word_cross_entropy(logits: Tensor, word_ids: Tensor, hidden: Tensor) -> Tensor:
    """Cross-entropy at hidden words: mean over those of a caption, then over captions, in float32.

    A caption weighs the same however many of its words are hidden, so that accumulation and several processes give
    what one batch gives; a mean over all hidden words would not. A caption without hidden words counts as zero.

    Args:
        logits: (T, K, V).
        word_ids: True ids, (T, K).
        hidden: Which of the K are hidden, bool (T, K).

    Returns:
        Scalar.
    """
    loss = F.cross_entropy(logits.float().flatten(0, 1), word_ids.long().flatten(), reduction='none').view_as(hidden)
    return (loss.masked_fill(~hidden, 0.0).sum(dim=1) / hidden.sum(dim=1).clamp(min=1)).mean()


@MODELS.register_module()
class MaskedLanguageModeling(Objective):
    """Masked language modelling on the text alone (MaskCLIP, CVPR version, section 4.1; L_MLM of Eq. 8).

    The captions pass the causal text tower a second time, with some words replaced by a learned token, and a decoder
    predicts these words. The paper leaves open whether the tower is bidirectional in this pass and whether some words
    are replaced by others (BERT's 80/10/10): here it stays causal, and all chosen words are hidden.

    Args:
        decoder: Config of the neck that predicts words (``TextDecoder``).
        mask_ratio: Share of each caption's words to hide, in (0, 1]; at least one is. Defaults to 0.2, the paper's.
        weight: Weight of the loss. Defaults to 0.05, the paper's; with 1 the paper's model is worse than CLIP.

    Raises:
        ValueError: If ``mask_ratio`` is not in (0, 1].
    """

    per_sample = True

    def __init__(self, decoder: dict, mask_ratio: float = 0.2, weight: float | dict = 0.05):
        super().__init__(weight)
        if not 0 < mask_ratio <= 1:
            raise ValueError(f'mask_ratio={mask_ratio}: the share of hidden words must lie in (0, 1], e.g. 0.2')
        self.mask_ratio = mask_ratio
        self.decoder = MODELS.build(decoder)
        self.mask_token = nn.Parameter(torch.zeros(self.decoder.width))

    def init_weights(self) -> None:
        super().init_weights()
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, views: Views) -> dict[str, Tensor]:
        word_ids, tower = views.word_ids(), views.text_tower
        length = word_ids.shape[1]
        positions, hidden = choose_words(word_ids, views.noise(length, TEXT_MASK_STREAM), self.mask_ratio)  # (T, K)
        hide = torch.zeros_like(word_ids, dtype=torch.bool).scatter(1, positions, hidden)  # (T, L)
        features = tower.encode(tower.embed(word_ids, hide, self.mask_token))  # (T, L, C)
        # Not by id: zero, which pads, is also the id of "!".
        padding = torch.arange(length, device=word_ids.device) > word_ids.argmax(dim=1, keepdim=True)
        logits = self.decoder(features, padding, positions)  # (T, K, V)
        return {'loss': masked_word_cross_entropy(logits, word_ids.gather(1, positions), hidden)}
