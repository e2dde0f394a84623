"""The linear layer with a low-rank adapter, which :mod:`~mmmaskclip.models.backbones.lora` puts into blocks."""

from torch import Tensor, nn
from torch.nn import functional as F


class LoRALinear(nn.Linear):
    """A linear layer ``x W^T + b`` with frozen weights, plus ``scale * x down^T up^T`` that learns."""

    lora_down: nn.Parameter
    lora_up: nn.Parameter
    lora_scale: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Features (..., out) of (..., in)."""
        low = F.linear(x, self.lora_down)  # (..., rank)
        return F.linear(x, self.weight, self.bias) + self.lora_scale * F.linear(low, self.lora_up)

    def whole_weight(self) -> Tensor:
        """The weight (out, in) that a layer without adapter would need for the same outputs."""
        return self.weight + self.lora_scale * self.lora_up @ self.lora_down
