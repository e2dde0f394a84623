"""The decoder that predicts hidden words."""

from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn import functional as F

from mmmaskclip.models.backbones.packed_captions import Packing, attend_packed
from mmmaskclip.models.regional_compile import region
from mmmaskclip.registry import MODELS


class DecoderBlock(nn.TransformerEncoderLayer):
    """torch's block, which also reads packed words."""

    def forward(
        self,
        src: Tensor,
        *args: Any,
        packing: tuple[Tensor | None, Tensor | None, int, int] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """The block on padded words (T, L, C), or on packed ones (P, C).

        Args:
            src: The words.
            packing: :attr:`Packing.attention` of packed words. None, the default: they are padded, and all other
                arguments are torch's.
        """
        if packing is None:
            return super().forward(src, *args, **kwargs)
        attention: Any = self.self_attn
        qkv = F.linear(self.norm1(src), attention.in_proj_weight, attention.in_proj_bias)  # (P, 3 C)
        src = src + attention.out_proj(attend_packed(qkv, attention.num_heads, *packing, False))
        return src + self.linear2(self.activation(self.linear1(self.norm2(src))))  # (P, C)


@MODELS.register_module()
class TextDecoder(BaseModule):
    """A small bidirectional transformer on the text tower's output, and a linear layer to the vocabulary.

    MaskCLIP's CVPR version predicts words through a 4-layer decoder, so that the prediction does not shape the tower
    itself. It is bidirectional, because the tower is causal: without it (depth 0, the paper's ablation) a word is
    predicted from earlier words only. The tower's output already contains positions.

    Args:
        width: Token width C of the text tower. Defaults to 512.
        num_heads: Attention heads. Defaults to 8.
        depth: Number of blocks; 0 predicts from the tower's output. Defaults to 4, the paper's.
        vocab_size: Number of token ids V. Defaults to 49408, CLIP's byte-pair vocabulary.
    """

    def __init__(
        self,
        width: int = 512,
        num_heads: int = 8,
        depth: int = 4,
        vocab_size: int = 49408,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.width = width
        self.blocks = None
        if depth:
            block = DecoderBlock(
                width, num_heads, 4 * width, dropout=0.0, activation='gelu', batch_first=True, norm_first=True
            )
            # Nested tensors would skip padding, but make the host wait for the length of each caption.
            self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.vocabulary = nn.Linear(width, vocab_size)

    def init_weights(self) -> None:
        """BERT's initialization. Needed: torch's encoder is made of copies, all of which start with equal weights."""
        super().init_weights()
        for module in self.modules():
            if isinstance(module, nn.MultiheadAttention):
                nn.init.trunc_normal_(module.in_proj_weight, std=0.02)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        features: Tensor,
        padding: Tensor | None,
        captions: Tensor,
        positions: Tensor,
        packing: Packing | None = None,
    ) -> Tensor:
        """Predict the words at some positions.

        Args:
            features: The text tower's output for every word, (T, L, C), or packed, (P, C).
            padding: True for what comes after the end of a caption, (T, L); no word looks at it. None of packed words.
            captions: Captions of the H words to predict, (H,). The vocabulary's layer, the largest, runs only there.
            positions: Their positions in these captions, (H,).
            packing: Where packed words stand. None, the default: they are padded.

        Returns:
            Logits, (H, V).
        """
        if packing is not None:
            # A checkpointed block has a forward of its own, which a compiled region would not call.
            plain = self.blocks is None or not any('forward' in vars(block) for block in self.blocks.layers)
            read = self._read_packed if plain else self._run_packed
            features = read(features, *packing.attention)  # (P, C)
            return self.vocabulary(features[packing.rows(captions, positions)])
        if self.blocks is not None:
            features = self.blocks(features, src_key_padding_mask=padding)  # (T, L, C)
        return self.vocabulary(features[captions, positions])

    @region(any_size=True)
    def _read_packed(
        self, x: Tensor, places: Tensor | None, offsets: Tensor | None, captions: int, length: int
    ) -> Tensor:
        return self._run_packed(x, places, offsets, captions, length)

    def _run_packed(
        self, x: Tensor, places: Tensor | None, offsets: Tensor | None, captions: int, length: int
    ) -> Tensor:
        """torch's encoder on words (P, C) without padding, where attention alone looks at other words."""
        if self.blocks is None:
            return x
        for block in self.blocks.layers:
            x = block(x, packing=(places, offsets, captions, length))
        norm: Any = self.blocks.norm
        return norm(x)
