"""What every training signal has in common."""

from abc import abstractmethod

from mmengine.model import BaseModule
from torch import Tensor

from mmmaskclip.models.views import Views
from mmmaskclip.utils.ramp import Ramp


class Objective(BaseModule):
    """One training signal: it looks at the views of a batch and returns losses.

    An objective owns its neck, head and loss. A method is a set of objectives in a config.

    Args:
        weight: Weight of its loss: a number, or a :class:`~mmmaskclip.utils.ramp.Ramp` as a dict. Defaults to 1.
    """

    #: Whether the pretrainer must keep an EMA teacher of the image tower.
    needs_teacher = False
    #: Whether it also needs the teacher's embedding, hence an EMA copy of the image projection.
    needs_teacher_embedding = False

    def __init__(self, weight: float | dict = 1.0, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.weight = Ramp.of(weight)
        self.progress = 0.0

    @abstractmethod
    def forward(self, views: Views) -> dict[str, Tensor]:
        """Losses of one batch by name, weighted; names contain 'loss' exactly when they are to be summed."""

    def after_optimizer_step(self) -> None:
        """Update what must move once per optimizer step and not with every forward pass."""

    def logged(self) -> dict[str, float | Tensor]:
        """Values to log beside the losses, by name; tensors are 0-dim and are not read before the log interval."""
        return {}
