"""The transformer block of both towers, the teacher and the decoder: mmpretrain's modules, our forward pass."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmcv.cnn.bricks import DropPath
from mmcv.cnn.bricks.transformer import FFN
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmmaskclip.models.backbones.lora_linear import LoRALinear
from mmmaskclip.models.backbones.packed_captions import attend_packed
from mmmaskclip.models.regional_compile import region

# In the order of their speed with less than 80 tokens.
_WITHOUT_PLANS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
# More blocks at once would take as many times longer to compile.
_BLOCKS_AT_ONCE = 4


def gather_tokens(tokens: Tensor, indices: Tensor) -> Tensor:
    """Pick tokens (B, N, C) by their indices (B, K), giving (B, K, C)."""
    return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


class TransformerBlock(TransformerEncoderLayer):
    """mmpretrain's pre-norm block with our forward pass. Parameters, names, initialization and float32 bits agree.

    The forward pass differs in three ways. q, k and v come from one ``split``, whose backward pass is one
    concatenation; three selections would fill and add three tensors of zeros. It bypasses mmcv's decorated FFN, which
    inspects its own signature in every call. And it can compute the output for some tokens only.
    """

    #: Tokens attend to themselves and earlier ones only.
    causal = False

    @region
    def forward(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """The block on tokens (B, N, C).

        Args:
            x: All tokens; they give the keys and values.
            queries: Indices (B, M) of the tokens to compute; not for a causal block. All by default.

        Returns:
            (B, N, C), or (B, M, C) in the order of ``queries``.
        """
        return self.whole(x, queries)

    @region
    def chain(self, x: Tensor, *following: TransformerBlock) -> Tensor:
        """This block and the ones that follow it on tokens (B, N, C)."""
        for block in (self, *following):
            x = block.whole(x)
        return x

    def whole(self, x: Tensor, queries: Tensor | None = None) -> Tensor:
        """The body of :meth:`forward`, without a region of its own."""
        normed = self.ln1(x)
        if queries is None:
            q, k, v = self.split_heads(self.attn.qkv(normed))  # (B, H, N, D)
        else:
            x = gather_tokens(x, queries)  # (B, M, C)
            q, k, v = self._queries_keys_values(normed, queries)
        dropout = self.attn.attn_drop if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=self.causal)  # (B, H, M, D)
        x = x + self.project(attended.transpose(1, 2).flatten(2))  # (B, M, C)
        return self.feed_forward(x)

    def heads(self, x: Tensor) -> list[Tensor]:
        """q, k and v, (B, H, N, D) each, of the block's input (B, N, C)."""
        return self.split_heads(self.attn.qkv(self.ln1(x)))

    @property
    def neurons_reader(self) -> nn.Linear:
        """The layer that reads the neurons of the feed-forward network, after their activation."""
        return self.ffn.layers[1]

    def split_heads(self, qkv: Tensor) -> list[Tensor]:
        """q, k and v, (B, H, N, D) each, of their joint projection (B, N, 3 C)."""
        return [self._heads(part) for part in qkv.split(self.embed_dims, dim=-1)]

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.attn.num_heads, self.attn.head_dims)).transpose(1, 2)

    def _queries_keys_values(self, normed: Tensor, queries: Tensor) -> list[Tensor]:
        """q of the tokens ``queries`` (B, H, M, D), k and v of all, (B, H, N, D)."""
        qkv = self.attn.qkv
        width, bias = self.embed_dims, qkv.bias
        weight = qkv.whole_weight() if isinstance(qkv, LoRALinear) else qkv.weight
        query_bias, key_value_bias = (None, None) if bias is None else bias.split((width, 2 * width))
        query_weight, key_value_weight = weight.split((width, 2 * width))
        q = F.linear(gather_tokens(normed, queries), query_weight, query_bias)
        k, v = F.linear(normed, key_value_weight, key_value_bias).chunk(2, dim=-1)
        return [self._heads(q), self._heads(k), self._heads(v)]

    def project(self, attended: Tensor) -> Tensor:
        """What attention adds to the residual stream, (B, N, C), from the joined heads (B, N, C)."""
        attn = self.attn
        return attn.out_drop(attn.gamma1(attn.proj_drop(attn.proj(attended))))

    def feed_forward(self, x: Tensor) -> Tensor:
        """The block's second half with its residual, on tokens (B, N, C)."""
        ffn, normed = self.ffn, self.ln2(x)
        if not isinstance(ffn, FFN):
            return ffn(normed, identity=x)
        return x + ffn.dropout_layer(ffn.gamma2(ffn.layers(normed)))


class MaskedBlock(TransformerBlock):
    """A decoder's block. In its input, the hidden patches at one position are equal in all images."""

    @region
    def forward(
        self, x: Tensor, queries: Tensor | None = None, hidden: Tensor | None = None, seen: Tensor | None = None
    ) -> Tensor:
        """The block on class token and patches (B, 1 + N, C); equal to rounding with ``hidden`` and without.

        Args:
            x: All tokens; they are keys and values.
            queries: Indices (B, M) of the tokens to compute. All by default.
            hidden: The content of x at hidden patches, (1, N, C); q, k and v are computed once, not for every image.
            seen: Indices (B, 1 + K) of the other tokens in x. With ``hidden`` only.
        """
        if hidden is None or seen is None:
            return self.whole(x, queries)
        apart = self.attn.qkv(self.ln1(gather_tokens(x, seen)))  # (B, 1 + K, 3 C)
        # The class token is never hidden: its row is overwritten.
        shared = F.pad(self.attn.qkv(self.ln1(hidden)), (0, 0, 1, 0)).expand(len(x), -1, -1)  # (B, 1 + N, 3 C)
        q, k, v = shared.scatter(1, seen.unsqueeze(-1).expand_as(apart), apart).split(self.embed_dims, dim=-1)
        if queries is not None:
            q, x = gather_tokens(q, queries), gather_tokens(x, queries)  # (B, M, C)
        dropout = self.attn.attn_drop if self.training else 0.0
        q, k, v = self._heads(q), self._heads(k), self._heads(v)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)  # (B, H, M, D)
        return self.feed_forward(x + self.project(attended.transpose(1, 2).flatten(2)))


class CausalBlock(TransformerBlock):
    """A block of the text tower, on padded captions, or on captions packed end to end."""

    causal = True

    @region(any_size=True)
    def forward(
        self,
        x: Tensor,
        places: Tensor | None = None,
        offsets: Tensor | None = None,
        captions: int = 0,
        length: int = 0,
    ) -> Tensor:
        """The block on padded words (T, L, C), or on the P words of all captions without padding (P, C).

        On packed words every linear map and norm runs on P rows. Attention does too where
        :func:`~.packed_captions.has_varlen` is True; elsewhere attention alone, a fortieth of the operations of CLIP's
        text tower, runs on padded captions.

        Args:
            x: Words.
            places: Row of each packed word among the T * L padded ones, (P,), for padded attention.
            offsets: Where each caption begins among the packed words, and their number, int32 (T + 1,), for attention
                without padding. With neither, the words are padded.
            captions: Number of captions T.
            length: Words L of the longest caption, or more with ``offsets``.
        """
        return self._words(x, places, offsets, captions, length)

    @region(any_size=True)
    def chain(  # type: ignore[override]
        self,
        x: Tensor,
        places: Tensor | None,
        offsets: Tensor | None,
        captions: int,
        length: int,
        *following: CausalBlock,
    ) -> Tensor:
        """:meth:`forward` of this block and of the ones that follow it."""
        for block in (self, *following):
            x = block._words(x, places, offsets, captions, length)
        return x

    def _words(self, x: Tensor, places: Tensor | None, offsets: Tensor | None, captions: int, length: int) -> Tensor:
        if places is None and offsets is None:
            return self.whole(x)
        qkv = self.attn.qkv(self.ln1(x))  # (P, 3 C)
        dropout = self.attn.attn_drop if self.training else 0.0
        attended = attend_packed(qkv, self.attn.num_heads, places, offsets, captions, length, True, dropout)  # (P, C)
        return self.feed_forward(x + self.project(attended))


def run_blocks(blocks: nn.ModuleList, x: Tensor, *arguments: Any) -> Tensor:
    """Run blocks one after another; compiled ones a few at a time.

    Each call of a compiled region costs the host a fixed time, for which a GPU with a small batch waits. And within a
    region the sum of one block and the norm of the next become one kernel.

    Args:
        blocks: Blocks of one class.
        x: Input of the first block.
        arguments: Further positional arguments of every block; a :class:`CausalBlock` needs all of its own.
    """
    whole: Any = blocks
    if not all(map(_may_be_chained, whole)):
        for block in whole:
            x = block(x, *arguments)
        return x
    for start in range(0, len(whole), _BLOCKS_AT_ONCE):
        first, *following = whole[start : start + _BLOCKS_AT_ONCE]
        x = first.chain(x, *arguments, *following)
    return x


def attention_without_plans(tokens: Tensor) -> AbstractContextManager:
    """Context in which attention on a GPU does without cuDNN, for short sequences and for changing lengths.

    torch prefers cuDNN on newer GPUs. cuDNN builds a plan for every new length, which takes a tenth of a second or
    more. With 26 to 77 tokens the kernel chosen here is as fast or up to a third faster, with 197 half as fast (H200,
    bfloat16, head width 64, forward and backward pass).
    """
    return sdpa_kernel(_WITHOUT_PLANS, set_priority=True) if tokens.is_cuda else nullcontext()


def _may_be_chained(block: nn.Module) -> bool:
    """Whether a block is compiled and of a plain class, without checkpointing and without hooks, as FSDP's are."""
    plain = type(block) in (TransformerBlock, CausalBlock) and 'forward' not in vars(block)
    if not plain or '_compiled_regions' not in vars(block):
        return False
    return not (block._forward_hooks or block._forward_pre_hooks or block._backward_hooks)


class SharedDropPath(nn.Module):
    """mmcv's DropPath, with its rate in a tensor, so that ``torch.compile`` shares one graph among all rates.

    Attributes:
        keep: Share of samples whose path is kept, 0-dim, on the host.
    """

    keep: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Drop the paths (B, ...) of some samples in training; the bits are mmcv's."""
        if not self.training:
            return x
        kept = self.keep + torch.rand((len(x), *[1] * (x.ndim - 1)), dtype=x.dtype, device=x.device)
        return x.div(self.keep) * kept.floor()


def check_residual_dtype(name: str | None) -> str | None:
    """Return the option ``residual_dtype`` of a tower if it is None or ``'bf16'``.

    Raises:
        ValueError: If it is something else.
    """
    if name not in (None, 'bf16'):
        raise ValueError(f"residual_dtype={name!r}: choose None or 'bf16'")
    return name


def as_residual(tokens: Tensor, name: str | None) -> Tensor:
    """Cast tokens to the precision of the residual stream, which the blocks then keep.

    Under an autocast to bfloat16 the linear layers give bfloat16, but positions and embeddings are float32, and so is
    every sum with them. ``'bf16'`` rounds the sums, as OpenCLIP does. Without such an autocast nothing changes.
    """
    kind = tokens.device.type
    # The check before a run computes shapes only, on the meta device, which has no autocast.
    if (
        name is None
        or kind == 'meta'
        or not torch.is_autocast_enabled(kind)
        or torch.get_autocast_dtype(kind) != torch.bfloat16
    ):
        return tokens
    return tokens.bfloat16()


def take_over(layers: nn.ModuleList) -> None:
    """Let blocks that mmpretrain's tower has built run our forward pass; changed in place."""
    for layer in layers:
        layer.__class__ = TransformerBlock
        share_drop_paths(layer)


def share_drop_paths(block: nn.Module) -> None:
    """Replace every DropPath of a block by one whose rate is no constant of a compiled graph; changed in place."""
    for module in block.modules():
        if isinstance(module, DropPath):
            # mmpretrain's rates are NumPy scalars, which break a graph.
            rate = module.drop_prob = float(module.drop_prob)
            module.__class__ = SharedDropPath if rate else nn.Identity
            if rate:
                module.keep = torch.tensor(1 - rate)
