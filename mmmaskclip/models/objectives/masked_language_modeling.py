"""MaskCLIP, CVPR version: predict hidden words of the caption."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.contracts import Views
from mmmaskclip.models.backbones import CLIPTextTransformer
from mmmaskclip.models.objectives.base import Objective
from mmmaskclip.models.objectives.noise import TEXT_MASK_STREAM
from mmmaskclip.registry import MODELS


def count_hidden(num_words: Tensor, ratio: float) -> Tensor:
    """How many of a caption's words to hide: max(1, round(ratio * words)), but 0 of none; int64, as ``num_words``."""
    return (ratio * num_words).round().long().clamp(min=1).minimum(num_words)


def choose_words(word_ids: Tensor, noise: Tensor, ratio: float, ends: list[int]) -> tuple[Tensor, Tensor]:
    """Choose the words to hide, uniformly; start, end and padding never.

    Args:
        word_ids: Captions (T, L): start, words, end (the highest id), padding.
        noise: Uniform noise (T, L); a word's number depends on its position and not on L, so neither does the choice.
        ratio: Share of words to hide, see :func:`count_hidden`.
        ends: Position of each caption's end, on the host, because shapes depend on it.

    Returns:
        Captions and positions of all H hidden words, int64 (H,) each, caption by caption.
    """
    place = torch.arange(word_ids.shape[1], device=word_ids.device)
    end = word_ids.argmax(dim=1, keepdim=True)
    is_word = (place > 0) & (place < end)  # (T, L)
    order = noise.masked_fill(~is_word, 1.0).argsort(dim=1, stable=True)
    counts = count_hidden(torch.tensor(ends) - 1, ratio)
    total = int(counts.sum())
    counts = counts.to(word_ids.device, non_blocking=True)
    captions = torch.arange(len(ends), device=word_ids.device).repeat_interleave(counts, output_size=total)  # (H,)
    rank = torch.arange(total, device=word_ids.device) - (counts.cumsum(0) - counts)[captions]
    return captions, order[captions, rank]


def masked_word_cross_entropy(logits: Tensor, word_ids: Tensor, captions: Tensor, num_captions: int) -> Tensor:
    """Cross-entropy at hidden words: mean over those of a caption, then over captions, in float32.

    A caption weighs the same however many of its words are hidden, so that accumulation and several processes give
    what one batch gives; a mean over all hidden words would not. A caption without hidden words counts as zero.

    Args:
        logits: Of all hidden words, (H, V).
        word_ids: Their true ids, (H,).
        captions: The caption of each, int64 (H,).
        num_captions: Number of captions T.

    Returns:
        Scalar.
    """
    losses = F.cross_entropy(logits.float(), word_ids.long(), reduction='none')  # (H,)
    counts = losses.new_zeros(num_captions).index_add(0, captions, torch.ones_like(losses))
    return (losses / counts[captions]).sum() / num_captions


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
        ValueError: If ``mask_ratio`` is not in (0, 1]; when called, if the text tower is not pooled at the highest id,
            by which the end of a caption is found: other vocabularies have other ends (SigLIP, MetaCLIP 2, TIPS), and
            their towers, where they are not causal, would see the padding.
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
        if (pool := getattr(tower, 'pool', 'max')) != 'max':
            raise ValueError(
                f'MaskedLanguageModeling: text_encoder has pool={pool!r}, and the end of a caption is known as the '
                "highest id alone, as in CLIP's vocabulary (pool='max'): leave this objective out"
            )
        num_captions, length = word_ids.shape
        noise = views.noise(length, TEXT_MASK_STREAM)
        ends = views.caption_ends()
        captions, positions = choose_words(word_ids, noise, self.mask_ratio, ends)  # (H,)
        hidden = torch.zeros_like(word_ids, dtype=torch.bool)  # (T, L)
        # A Python value would be sent to the device, for which the host waits.
        hidden.index_put_((captions, positions), torch.ones((), dtype=torch.bool, device=hidden.device))
        words = tower.embed(word_ids, hidden, self.mask_token)  # (T, L, C)
        if isinstance(tower, CLIPTextTransformer) and tower.packed:
            features, packing = tower.encode_packed(words, ends)  # (P, C)
            logits = self.decoder(tower.final_norm(features), None, captions, positions, packing)  # (H, V)
        else:
            # Padding is found by position: its id, zero, is also that of "!".
            padding = torch.arange(length, device=word_ids.device) > word_ids.argmax(dim=1, keepdim=True)
            logits = self.decoder(tower.encode(words), padding, captions, positions)  # (H, V)
        return {'loss': masked_word_cross_entropy(logits, word_ids[captions, positions], captions, num_captions)}
