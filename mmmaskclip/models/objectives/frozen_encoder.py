"""An image tower of an earlier run, as a fixed teacher."""

from torch import nn

from mmmaskclip.checkpoints.weights import read_state_dict
from mmmaskclip.registry import MODELS

_PREFIX = 'image_encoder.'


class FrozenEncoder(nn.Module):
    """The image tower of a checkpoint, never trained and always in eval mode (two-stage distillation).

    Its weights are read when the model is initialized, and are part of the model's own checkpoints.

    Args:
        encoder: Config of the image tower, as in the run that trained it.
        checkpoint: Path of that run's checkpoint; only the weights under ``image_encoder.`` are used. Without it the
            model can be built, to load a finished run, but not be initialized. Defaults to None.
    """

    def __init__(self, encoder: dict, checkpoint: str | None = None):
        super().__init__()
        self.encoder = MODELS.build(encoder).requires_grad_(False).eval()
        self.checkpoint = checkpoint

    def init_weights(self) -> None:
        """Read the weights.

        Raises:
            ValueError: If there is no ``checkpoint``, or it has no image tower or one that does not fit ``encoder``.
            FileNotFoundError: If there is no such file.
        """
        if self.checkpoint is None:
            raise ValueError(
                "target='frozen' has no teacher: set frozen.checkpoint to a checkpoint of the first stage, "
                'e.g. --cfg-options model.objectives.distillation.frozen.checkpoint=work_dirs/clip/epoch_25.pth'
            )
        weights = {
            name[len(_PREFIX) :]: value
            for name, value in read_state_dict(self.checkpoint).items()
            if name.startswith(_PREFIX)
        }
        if not weights:
            raise ValueError(
                f'{self.checkpoint!r} has no weights under {_PREFIX!r}: give a checkpoint of a pretrainer.'
            )
        try:
            self.encoder.load_state_dict(weights)
        except RuntimeError as error:
            differences = '; '.join(line.strip() for line in str(error).splitlines()[1:6])
            raise ValueError(
                f'{self.checkpoint!r} does not fit frozen.encoder: {differences}. Use the image_encoder of the config '
                'it was trained with.'
            ) from error

    def train(self, mode: bool = True) -> 'FrozenEncoder':
        """Stay in eval mode: targets must not depend on drop path or dropout."""
        return super().train(False)
