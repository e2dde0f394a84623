"""What every training signal has in common."""

from abc import abstractmethod

from mmengine.model import BaseModule
from torch import Tensor

from mmmaskclip.contracts import FollowsRun, Views
from mmmaskclip.models.ramp import Ramp


class Objective(BaseModule, FollowsRun):
    """One training signal: it looks at the views of a batch and returns losses.

    An objective owns its neck, head and loss. A method is a set of objectives in a config.

    Args:
        weight: Weight of its losses, which the pretrainer applies: a number, or a
            :class:`~mmmaskclip.models.ramp.Ramp` as a dict. Defaults to 1.
    """

    #: Whether the pretrainer must keep an EMA teacher of the image tower.
    needs_teacher = False
    #: Whether it also needs the teacher's embedding, hence an EMA copy of the image projection.
    needs_teacher_embedding = False
    #: Whether it looks at single patches; if not, any backbone serves as image tower.
    needs_patches = False
    #: Whether each of its losses is a mean over samples of what each sample gives on its own, so that the mean over
    #: micro-batches is that of the batch. One that compares samples is a :class:`ComparingObjective` instead.
    per_sample = False

    def __init__(self, weight: float | dict = 1.0, init_cfg: dict | None = None):
        super().__init__(init_cfg)
        self.weight = Ramp.of(weight)
        self.progress = 0.0

    @abstractmethod
    def forward(self, views: Views) -> dict[str, Tensor]:
        """Values of one batch by name, unweighted; those with 'loss' in their name are summed, others only logged."""

    def set_progress(self, progress: float) -> None:
        self.progress = progress


class ComparingObjective(Objective):
    """An objective that compares the samples of a batch, in two parts: what each gives, and the comparison.

    The first part can be computed in micro-batches, the second looks at the whole batch.
    """

    @abstractmethod
    def embed(self, views: Views) -> dict[str, Tensor]:
        """What the comparison needs, by name: tensors with one row per sample, (B, ...), small ones."""

    @abstractmethod
    def compare(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses, as :meth:`forward` returns them, of the rows of all samples of this process."""

    def forward(self, views: Views) -> dict[str, Tensor]:
        return self.compare(self.embed(views))


def check_patches(views: Views, num_patches: int) -> None:
    """Refuse a decoder that is made for another number of patches than the images have.

    Raises:
        ValueError: If the numbers differ.
    """
    rows, columns = views.grid()
    if rows * columns != num_patches:
        raise ValueError(
            f'images have {rows * columns} patches, but decoder.num_patches={num_patches}: set it to '
            '(image size / patch size) squared'
        )
