"""Several random crops of one image."""

from typing import Any

from PIL import Image

from mmmaskclip.registry import TRANSFORMS


@TRANSFORMS.register_module()
class RepeatCrops:
    """Applies the same random transforms several times: multi-crop, as in SwAV and DINO.

    mmpretrain's ``MultiView`` and ``DINOMultiCrop`` work on mmpretrain's result dicts, and ``DINOMultiCrop`` fixes its
    transforms.

    Args:
        count: Number of crops. Defaults to 8, DINO's and SILC's.
        transforms: Transforms of one crop in order, configs or callables. All crops must end up in one size.

    Raises:
        ValueError: If ``count`` is not positive or there are no transforms.
    """

    def __init__(self, count: int = 8, transforms: list[Any] | tuple[Any, ...] = ()) -> None:
        if count < 1:
            raise ValueError(f'RepeatCrops: count={count}: at least one crop is needed')
        if not transforms:
            raise ValueError(
                'RepeatCrops: transforms is empty: all crops would be the whole image; give a random crop, e.g. '
                "[dict(type='torchvision/RandomResizedCrop', size=96, scale=(0.05, 0.4))]"
            )
        self.count = count
        self._transforms = [TRANSFORMS.build(step) if isinstance(step, dict) else step for step in transforms]

    def __call__(self, image: Image.Image) -> list[Any]:
        """Make the crops of one image, each with new random numbers. A larger ``count`` only appends crops."""
        return [self._crop(image) for _ in range(self.count)]

    def _crop(self, image: Any) -> Any:
        for step in self._transforms:
            image = step(image)
        return image
