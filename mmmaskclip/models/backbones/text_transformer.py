"""The text tower: CLIP's causal transformer, computed only as far as the longest caption of the batch."""

from functools import cached_property
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.datasets.transforms.tokenize import Tokenizer, make_tokenizer
from mmmaskclip.models.backbones.packed_captions import Packing
from mmmaskclip.models.backbones.transformer_block import (
    CausalBlock,
    TransformerBlock,
    as_residual,
    attention_without_plans,
    check_residual_dtype,
    run_blocks,
)
from mmmaskclip.models.regional_compile import region
from mmmaskclip.registry import MODELS

_ACTIVATIONS = {
    'gelu': dict(type='GELU'),
    'quick_gelu': dict(type='mmpretrain.QuickGELU'),
    'gelu_tanh': dict(type='GELU', approximate='tanh'),
    'relu': dict(type='ReLU'),
}


class PaddedBlock(TransformerBlock):
    """A block with bidirectional attention that leaves padding out."""

    def forward(self, x: Tensor, queries: Tensor | None = None, seen: Tensor | None = None) -> Tensor:
        """The block on words (T, L, C). Keys are the words that are True in ``seen``, bool (T, 1, 1, L); None: all."""
        if seen is None:
            return super().forward(x, queries)
        q, k, v = self.heads(x)  # (T, H, L, D)
        dropout = self.attn.attn_drop if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, dropout_p=dropout)
        return self.feed_forward(x + self.project(attended.transpose(1, 2).flatten(2)))


@MODELS.register_module()
class CLIPTextTransformer(BaseModule):
    """Causal transformer pooled at the end-of-text token (Radford et al. 2021, section 2.4).

    mmpretrain's CLIP text tower needs ``transformers`` and mmseg's is inference only, so the tower is ours. Its blocks
    are mmpretrain's ViT blocks with the causal flag set in the attention call: a dense mask would rule out the flash
    kernel.

    Attention is causal and the output is read at the end-of-text token, so padding after it changes nothing: captions
    may be padded to any length, and computing only up to the longest caption of the batch is exact.

    Args:
        width: Token width C. Defaults to 512.
        num_layers: Number of blocks. Defaults to 12.
        num_heads: Attention heads. Defaults to 8.
        vocab_size: Number of token ids. Defaults to 49408, CLIP's byte-pair vocabulary.
        context_length: Longest caption in tokens, start and end included. Defaults to 77.
        stretch_positions: Weights with fewer positions than ``context_length`` are stretched when they are loaded, the
            first 20 kept (Long-CLIP), see :func:`~mmmaskclip.checkpoints.positions.stretch_positions`. Defaults to
            False: such weights are refused.
        quick_gelu: Use QuickGELU, as OpenAI's weights do, in place of GELU. Defaults to False.
        frozen: Keep the weights as they were loaded, as LiT does with a locked tower. Defaults to False.
        activation: ``'gelu'``, ``'quick_gelu'``, ``'gelu_tanh'`` or ``'relu'``; None, the default, is what
            ``quick_gelu`` says.
        hidden: Width of the feed-forward networks. Defaults to ``4 * width``.
        eps: Epsilon of the norms. Defaults to 1e-5.
        causal: Whether a word sees earlier ones only. False is SigLIP's. Defaults to True.
        pool: The word whose feature is the caption's: ``'max'``, the one with the highest id, the end in CLIP's
            vocabulary; a number, the first word with that id, the end in other vocabularies (MetaCLIP 2: 2);
            ``'last'``, the last of ``context_length`` (SigLIP); or ``'mean'``, the mean of all words, of which none
            sees the padding (TIPS). Defaults to ``'max'``.
        tokenizer: Options of :func:`~mmmaskclip.datasets.transforms.tokenize.make_tokenizer` for another tokenizer than
            CLIP's. Defaults to None.
        residual_dtype: ``'bf16'`` keeps the residual stream in bfloat16 under an autocast to it, as OpenCLIP does.
            Defaults to None: float32.
        packed: Compute captions end to end, without padding. Features are equal to rounding; the shorter the mean
            caption against the longest of its batch, the more this saves. Defaults to False.
    """

    def __init__(
        self,
        width: int = 512,
        num_layers: int = 12,
        num_heads: int = 8,
        vocab_size: int = 49408,
        context_length: int = 77,
        quick_gelu: bool = False,
        frozen: bool = False,
        packed: bool = False,
        residual_dtype: str | None = None,
        stretch_positions: bool = False,
        activation: str | None = None,
        hidden: int | None = None,
        eps: float = 1e-5,
        causal: bool = True,
        pool: str | int = 'max',
        tokenizer: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        activation = activation or ('quick_gelu' if quick_gelu else 'gelu')
        if activation not in _ACTIVATIONS:
            raise ValueError(f'activation={activation!r}: choose one of {", ".join(_ACTIVATIONS)}')
        if not isinstance(pool, int) and pool not in ('max', 'last', 'mean'):
            raise ValueError(f"pool={pool!r}: choose 'max', 'last', 'mean' or the id of the end of a caption")
        if causal and pool == 'mean':
            raise ValueError("pool='mean' with causal=True: the mean is of words that see all others, set causal=False")
        if packed and not (causal and pool == 'max'):
            raise ValueError(f"packed=True with causal={causal}, pool={pool!r}: packing needs causal=True, pool='max'")
        self.causal, self.pool, self.tokenizer = causal, pool, tokenizer
        self.width = width
        self.context_length = context_length
        self.packed = packed
        self.residual_dtype = check_residual_dtype(residual_dtype)
        self.stretch_positions = stretch_positions
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.pos_embed = nn.Parameter(torch.zeros(context_length, width))
        self.layers = nn.ModuleList(
            (CausalBlock if causal else PaddedBlock if pool == 'mean' else TransformerBlock)(
                width,
                num_heads,
                hidden or 4 * width,
                act_cfg=_ACTIVATIONS[activation],
                norm_cfg=dict(type='LN', eps=eps),
            )
            for _ in range(num_layers)
        )
        self.final_norm = nn.LayerNorm(width, eps=eps)
        if frozen:
            self.requires_grad_(False)

    @cached_property
    def tokenize(self) -> Tokenizer:
        """Texts to token ids, (L,) each: CLIP's byte pairs, or what ``tokenizer`` says."""
        return make_tokenizer(self.tokenizer, self.context_length)

    def init_weights(self) -> None:
        """CLIP's initialization (Radford et al. 2021, released code)."""
        super().init_weights()
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.01)
        attention_std = self.width**-0.5
        residual_std = attention_std * (2 * len(self.layers)) ** -0.5
        layer: Any  # mmpretrain's blocks have no type information
        for layer in self.layers:
            nn.init.normal_(layer.attn.qkv.weight, std=attention_std)
            nn.init.normal_(layer.attn.proj.weight, std=residual_std)
            nn.init.normal_(layer.ffn.layers[0][0].weight, std=(2 * self.width) ** -0.5)
            nn.init.normal_(layer.ffn.layers[1].weight, std=residual_std)
            for linear in (layer.attn.qkv, layer.attn.proj, layer.ffn.layers[0][0], layer.ffn.layers[1]):
                nn.init.zeros_(linear.bias)

    def embed(self, word_ids: Tensor, hidden: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
        """Word embedding plus positions.

        Args:
            word_ids: Captions (T, L) with L at most ``context_length``, padded with zeros.
            hidden: Which words to hide, bool (T, L). None by default.
            mask_token: What stands in their place, (C,).

        Returns:
            (T, L, C).

        Raises:
            ValueError: If captions are longer than ``context_length``.
        """
        length = word_ids.shape[1]
        if length > self.context_length:
            raise ValueError(
                f'captions of {length} tokens, but context_length={self.context_length}: tokenize with '
                'context_length set to the same value'
            )
        words = self.token_embedding(word_ids)  # (T, L, C)
        if hidden is not None and mask_token is not None:
            words = torch.where(hidden.unsqueeze(-1), mask_token, words)  # (T, L, C)
        return words + self.pos_embed[:length]

    def encode(self, words: Tensor, positions: Tensor | None = None) -> Tensor:
        """Run the transformer over embedded words.

        Args:
            words: From :meth:`embed`, (T, L, C).
            positions: One position per caption to return, (T,). All positions by default.

        Returns:
            Features after the final norm, (T, L, C), or (T, C).
        """
        words = as_residual(words, self.residual_dtype)
        with attention_without_plans(words):
            words = run_blocks(self.layers, words, *((None, None, 0, 0) if self.causal else ()))
        if positions is not None:
            return self.read_words(words.flatten(0, 1), _flat(positions, words.shape[1]))  # (T, C)
        return self.final_norm(words)

    @region(any_size=True)
    def read_words(self, words: Tensor, rows: Tensor) -> Tensor:
        """Some rows (T,) of words (P, C) after the final norm, (T, C)."""
        return self.final_norm(words[rows])

    def encode_packed(self, words: Tensor, ends: list[int]) -> tuple[Tensor, Packing]:
        """:meth:`encode`, without computing what comes after the end of a caption, and without the final norm.

        Args:
            words: From :meth:`embed`, (T, L, C).
            ends: Position of each caption's end, on the host, so that it need not wait for the device.

        Returns:
            The P words of all captions, end to end, (P, C), and where they stand.
        """
        packing = Packing.of(words, ends, self.context_length)
        x = as_residual(words.flatten(0, 1)[packing.places], self.residual_dtype)  # (P, C)
        return run_blocks(self.layers, x, *packing.attention), packing

    def forward(self, word_ids: Tensor, ends: list[int] | None = None) -> Tensor:
        """Feature of the word that ``pool`` names, for CLIP the end of the caption, after the final norm.

        Args:
            word_ids: Captions (T, L).
            ends: Position of each caption's end. By default read from ``word_ids``, for which the host waits.

        Returns:
            (T, C).

        Raises:
            ValueError: If captions are not padded to ``context_length`` where ``pool='last'`` needs it.
        """
        words = self.embed(word_ids)
        if self.pool == 'mean':
            return self._mean_word(words, word_ids != 0)
        if self.packed:
            x, packing = self.encode_packed(words, ends or word_ids.argmax(dim=-1).tolist())
            return self.read_words(x, packing.after - 1)
        return self.encode(words, positions=self._places(word_ids))

    def _mean_word(self, words: Tensor, present: Tensor) -> Tensor:
        """Mean (T, C) of the words (T, L, C) that are ``present``, bool (T, L), after the final norm."""
        # A caption without words attends to its padding: a softmax over nothing is NaN. Its mean is still zero.
        seen = (present | ~present.any(1, keepdim=True))[:, None, None]  # (T, 1, 1, L)
        words = as_residual(words, self.residual_dtype)
        with attention_without_plans(words):
            for layer in self.layers:
                words = layer(words, seen=seen)
        share = present.unsqueeze(-1).to(words.dtype)  # (T, L, 1)
        return (self.final_norm(words) * share).sum(1) / share.sum(1).clamp(min=1)

    def _places(self, word_ids: Tensor) -> Tensor:
        """Position (T,) of the word whose feature is the caption's."""
        if self.pool == 'max':
            return word_ids.argmax(dim=-1)
        if isinstance(self.pool, int):
            return (word_ids == self.pool).int().argmax(dim=-1)
        if word_ids.shape[1] != self.context_length:
            raise ValueError(
                f'captions of {word_ids.shape[1]} tokens, but this tower pools the last of context_length='
                f'{self.context_length}: tokenize with its own tokenizer, which pads to that length'
            )
        return torch.full_like(word_ids[:, 0], self.context_length - 1)


def _flat(positions: Tensor, length: int) -> Tensor:
    """Rows, among all words of captions of one length, of one position per caption, (T,)."""
    # Not len(): a trace would freeze it to a constant.
    return torch.arange(positions.shape[0], device=positions.device) * length + positions
