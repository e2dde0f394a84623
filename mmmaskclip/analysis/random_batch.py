"""A random batch in the sizes of a config, for measuring the cost of a step without data."""

from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from PIL import Image

from mmmaskclip.datasets.transforms.views import ImageViews

# Ids of the start and end tokens in CLIP's byte-pair vocabulary; all smaller ids are words.
_START, _END = 49406, 49407


def random_batch(cfg: Config, batch_size: int, caption_length: int) -> dict[str, Any]:
    """Random images and captions, in the form of the collate function's batches.

    Args:
        cfg: A pretraining config. The views of its training dataset determine number and size of the images, and the
            type of the dataset whether there are labels. A config without training data, as in configs/pretrained, gets
            one view of the tower's size.
        batch_size: Images B.
        caption_length: Tokens of every caption, start and end included.

    Returns:
        Every view, uint8 (B, 3, H, W), or (B, n, 3, h, w) for n crops per image; ``tokens`` int32 (B, caption_length);
        ``caption_ends``, B times the last place; ``seed`` int64 (B,); ``label`` int64 (B,) if the dataset gives labels,
        with -1 for every second image; ``image_id`` int64 (B,) if the dataset gives it.

    Raises:
        ValueError: If the training dataset has no ``views``: it comes from another package.
    """
    dataset = _dataset(cfg)
    sources = [source.dataset for source in dataset.sources.values()] if 'sources' in dataset else [dataset]
    if 'views' not in sources[0]:
        raise ValueError(
            f'train_dataloader.dataset, a {dataset.get("type")}, has no views, so the sizes of its images are '
            'unknown; only configs with the datasets of this package can be measured'
        )
    views = {name: list(steps) for name, steps in sources[0].views.items()}
    # An image larger than any crop, so that no transform fails. The views then have the same sizes as in training.
    sample = ImageViews(views)(Image.new('RGB', (640, 480)), seed=0)
    tokens = torch.randint(1, _START, (batch_size, caption_length), dtype=torch.int32)
    tokens[:, 0], tokens[:, -1] = _START, _END
    batch: dict[str, Any] = {
        name: torch.randint(0, 256, (batch_size, *view.shape), dtype=torch.uint8) for name, view in sample.items()
    }
    batch.update(tokens=tokens, caption_ends=[caption_length - 1] * batch_size)
    batch['seed'] = torch.randint(0, 2**62, (batch_size,))
    if any(source.get('type') == 'ClassCaptionShards' for source in sources):
        batch['label'] = torch.where(torch.arange(batch_size) % 2 == 0, 0, -1)
    if any(source.get('identify_images') for source in sources):
        batch['image_id'] = torch.arange(batch_size)
    return batch


def _dataset(cfg: Config) -> ConfigDict:
    if cfg.get('train_dataloader') is not None:
        return cfg.train_dataloader.dataset
    size = cfg.model.image_encoder.img_size
    return ConfigDict(views=dict(image=[dict(type='torchvision/CenterCrop', size=size)]))
