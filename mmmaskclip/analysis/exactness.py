"""Compares fast forms of computations with their plain forms: on every device, exactly or up to rounding."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor, nn

from mmmaskclip.contracts import Similarities
from mmmaskclip.models.backbones import CLIPTextTransformer, TransformerBlock
from mmmaskclip.models.losses import CodewordLoss
from mmmaskclip.models.objectives.at_once import loss_at_once
from mmmaskclip.models.objectives.teacher import move
from mmmaskclip.models.regional_compile import compile_regions
from mmmaskclip.utils.tables import format_table

Tensors = Sequence[Tensor | None]


@dataclass
class Check:
    """Two ways to compute the same tensors.

    Attributes:
        name: Name of the computation.
        error: Largest difference, relative to the largest value of its tensor.
        limit: Largest allowed error.
    """

    name: str
    error: float
    limit: float

    @property
    def passed(self) -> bool:
        """Whether the error is within its limit. An error of NaN is not."""
        return self.error <= self.limit


def run_checks(device: str, compiler: dict[str, Any] | None = None) -> list[Check]:
    """Compare every fast form with the plain one in float32, on random tensors. On a GPU bfloat16 has other kernels.

    Args:
        device: Device that computes.
        compiler: Arguments of ``torch.compile`` for the compiled block. Defaults to None: torch's own.
    """
    torch.manual_seed(0)
    checks = [
        Check('transformer block, bits of mmpretrain', *_block(device)),
        Check('compiled block', *_compiled(device, compiler)),
        Check('packed captions', *_packed(device)),
        *([Check('packed captions in bfloat16', *_packed(device, torch.bfloat16))] if device == 'cuda' else []),
        Check('codeword loss in chunks', *_codewords(device)),
        Check('loss at once', *_at_once(device)),
        Check('teacher update on the device', *_teacher(device)),
    ]
    return checks


def table_of_checks(checks: Sequence[Check]) -> str:
    """A Markdown table."""
    cells = [(c.name, f'{c.error:.1e}', f'{c.limit:.0e}', 'yes' if c.passed else 'NO') for c in checks]
    return format_table(cells, ['check', 'relative error', 'limit', 'passed'], markdown=True)


def _error(ones: Tensors, others: Tensors) -> float:
    errors = [0.0]
    for one, other in zip(ones, others, strict=True):
        if one is None or other is None:
            assert one is other
            continue
        errors.append(float((one - other).abs().max() / other.abs().max().clamp(min=1e-12)))
    # torch's max, because Python's would ignore a NaN.
    return float(torch.tensor(errors).max())


def _results(module: nn.Module, x: Tensor, call: Callable[..., Tensor] | None = None) -> list[Tensor | None]:
    """The output, and the gradients of input and parameters, of a scalar that depends on all of the output."""
    x = x.detach().clone().requires_grad_()
    module.zero_grad()
    y = (call or module)(x)
    (y * torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)).sum().backward()
    return [y.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]


def _block(device: str) -> tuple[float, float]:
    theirs, ours = (kind(64, 4, 128).to(device) for kind in (TransformerEncoderLayer, TransformerBlock))
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(8, 50, 64, device=device)
    # On a GPU the two may use different attention kernels, because their strides differ.
    return _error(_results(ours, x), _results(theirs, x)), 0.0 if device == 'cpu' else 1e-5


def _compiled(device: str, compiler: dict[str, Any] | None) -> tuple[float, float]:
    plain = TransformerBlock(64, 4, 128).to(device)
    compiled = copy.deepcopy(plain)
    compile_regions(compiled, compiler or True)
    x = torch.randn(8, 50, 64, device=device)
    return _error(_results(compiled, x), _results(plain, x)), 1e-4


def _captions(device: str) -> tuple[Tensor, list[int]]:
    word_ids = torch.randint(1, 98, (16, 20))
    ends = torch.randint(1, 20, (16,)).tolist()
    for row, end in enumerate(ends):
        word_ids[row, end], word_ids[row, end + 1 :] = 99, 0
    return word_ids.to(device), ends


def _packed(device: str, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    padded, packed = (CLIPTextTransformer(64, 2, 4, 100, 20, packed=packed).to(device) for packed in (False, True))
    padded.init_weights()
    packed.load_state_dict(padded.state_dict())
    word_ids, ends = _captions(device)
    results = []
    for tower in (packed, padded):
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            y = tower(word_ids, ends)
        # Not the squares: those of normalized features have one sum whatever the weights.
        (y.float() * torch.linspace(-1, 1, y.numel(), device=device).view_as(y)).sum().backward()
        results.append([y.detach(), *(parameter.grad for parameter in tower.parameters())])
    return _error(*results), 1e-4 if dtype == torch.float32 else 5e-2


def _codewords(device: str) -> tuple[float, float]:
    tensors = [nn.functional.normalize(torch.randn(rows, 16, device=device), dim=-1) for rows in (300, 40, 300, 40)]
    results = []
    for max_logits in (1000, 2**26):
        student, codewords = (tensor.clone().requires_grad_() for tensor in tensors[:2])
        loss = CodewordLoss(40, max_logits=max_logits).to(device)
        value = loss(Similarities(student, codewords), Similarities(*tensors[2:]))
        value.backward()
        results.append([value.detach(), student.grad, codewords.grad, loss.pending])
    return _error(*results), 1e-4


def _at_once(device: str) -> tuple[float, float]:
    layer, x = nn.Linear(16, 4).to(device), torch.randn(20, 16, device=device)
    at_once = _results(
        layer, x, lambda rows: loss_at_once(lambda some, _: layer(some).square().mean(), rows, layer.parameters(), 8)
    )
    return _error(at_once, _results(layer, x, lambda rows: layer(rows).square().mean())), 1e-5


def _teacher(device: str) -> tuple[float, float]:
    copies, sources = ([torch.randn(50, 50, device=device) for _ in range(3)] for _ in range(2))
    expected = [one.lerp(other, 0.3) for one, other in zip(copies, sources, strict=True)]
    move(tuple(copies), tuple(sources), torch.tensor(0.3, device=device))
    return _error(copies, expected), 1e-6
